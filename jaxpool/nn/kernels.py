"""Which kernel computes attention: by platform, row length and the needs of the architecture."""

import re

import jax

from jaxpool.nn.arch import Arch

DENSE = 256  # longer rows are computed in blocks of queries: linear memory, scores stay in cache
FLASH = 256  # most features of a head for the Pallas kernel
SPLASH = 256  # shortest row for splash attention, whose rows are multiples of
LANES = 128
CUDNN = 128  # shortest row for cuDNN's kernel: rows with packed texts are at least as long


def platform_of(device: jax.Device) -> str:
    """The platform whose kernels a device runs; GPUs older than NVIDIA's Ampere run "cpu"'s."""
    capability = str(getattr(device, "compute_capability", ""))
    old = not re.fullmatch(r"[89]\.\d|\d\d\.\d", capability)
    return "cpu" if device.platform == "gpu" and old else device.platform


def choose(platform: str, arch: Arch) -> str:
    """The family of kernels for a platform: "splash" on TPU, "flash" or "cudnn" on GPU, or "xla".

    What a family cannot compute exactly stays with XLA. cuDNN's is the one that knows biases, which
    cost it half its speed.
    """
    if arch.leading or arch.sinks or arch.lean:
        return "xla"
    biased = arch.alibi or arch.relative_buckets > 0
    if platform == "tpu" and not biased:
        return "splash"
    if platform not in ("gpu", "cuda") or arch.dtype not in ("bfloat16", "float16"):
        return "xla"
    if not biased and arch.head_dim <= FLASH:
        return "flash"
    return "cudnn" if suits_cudnn(arch) else "xla"


def suits_cudnn(arch: Arch) -> bool:
    """Whether cuDNN's kernel computes the heads of an architecture."""
    plain = not arch.attention_softcap and not arch.latent
    return arch.head_dim % 8 == 0 and arch.head_dim <= 128 and plain


def backend(arch: Arch, length: int) -> str:
    """The name of the kernel that serves rows of `length`."""
    if arch.kernel == "splash" and length >= SPLASH and length % LANES == 0 and splits(arch):
        return "splash"
    if arch.kernel == "flash" and splits(arch) and arch.head_dim <= FLASH:
        return "flash"
    if arch.kernel == "cudnn" and length >= CUDNN:
        return "cudnn"
    return xla(length)


def xla(length: int) -> str:
    """The name of XLA's kernel for rows of `length`, which computes everything."""
    return "dense" if length <= DENSE else "blocked"


def splits(arch: Arch) -> bool:
    """Whether the heads divide over the model axis of the mesh in use, if any."""
    mesh = jax.sharding.get_abstract_mesh()
    size = 1 if mesh.empty else mesh.shape["model"]
    return arch.heads % size == 0 and arch.kv_heads % size == 0
