"""SigLIP and SigLIP2: two bidirectional towers (arXiv 2303.15343, 2502.14786).

They were trained on lower-cased texts padded to 64 tokens, whose padding is read as text.
"""

from dataclasses import replace

from converters.family import Family, Head, activation, dense, norm
from converters.towers import IGNORED, PICTURES, TEXT, text_tower, tower, vision_arch
from jaxpool.heads.pools import Probe
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch, Patches


def arch(config) -> Arch:
    """Both towers, for pictures of one size."""
    return text_tower(config.text_config, vision=vision_arch(config))


def naflex_arch(config) -> Arch:
    """Both towers, for pictures of any aspect ratio."""
    vision = config.vision_config
    patches = Patches(vision.patch_size, stretched=True)
    length = vision.num_patches
    seen = tower(vision, patches=patches, positions=length, max_length=length)
    return text_tower(config.text_config, vision=seen)


def text_steps(config, arch: Arch) -> tuple:
    """The last token, padding as a rule, and a linear layer."""
    return Pool(("lasttoken",)), Dense("head", arch.dim, config.text_config.projection_size)


def picture_steps(config, arch: Arch) -> tuple:
    """Attention of a learned query."""
    vision = config.vision_config
    probe = Probe(
        dim=vision.hidden_size,
        heads=vision.num_attention_heads,
        mlp_dim=vision.intermediate_size,
        activation=activation(vision.hidden_act),
        eps=vision.layer_norm_eps,
    )
    return (probe,)


POOLS = "vision_model.head"
HEADS = (
    dense("heads.head", "text_model.head")
    + f"""
heads.probe.embedding                 {POOLS}.probe                     1 1 D
heads.probe.{{query,key,value}}.kernel  {POOLS}.attention.in_proj_weight  (N H|N H|N H) D
heads.probe.{{query,key,value}}.bias    {POOLS}.attention.in_proj_bias    (N H|N H|N H)
"""
    + dense("heads.probe.out", f"{POOLS}.attention.out_proj", "D (N H)")
    + norm("heads.probe.norm", f"{POOLS}.layernorm")
    + dense("heads.probe.up", f"{POOLS}.mlp.fc1", "F D")
    + dense("heads.probe.down", f"{POOLS}.mlp.fc2", "D F")
)

NAMES = TEXT + PICTURES

SIGLIP = Family(
    "Siglip",
    arch,
    NAMES,
    heads={"Model": Head("embed", text_steps, HEADS, pictures=picture_steps)},
    ignored=IGNORED,
    lower_case=True,
    padded=True,
    processor="Siglip",
    examples=("google/siglip-so400m-patch14-384", "google/siglip2-base-patch16-224"),
)

SIGLIP2 = replace(
    SIGLIP,
    name="Siglip2",
    arch=naflex_arch,
    names=NAMES.replace("E c h w", "E (h w c)"),
    processor="Siglip2",
    examples=("google/siglip2-base-patch16-naflex",),
)
