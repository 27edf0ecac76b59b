"""Splash attention over packed rows for TPUs: jax's Pallas kernel, which skips blocks unseen."""

import jax

from jaxpool.nn.arch import Arch

BLOCKS = (512, 256, 128)  # tokens of a block: the most that divide a row


def splash(q, k, v, segments, arch: Arch, reach: int, interpret: bool = False) -> jax.Array:
    """Attention of q `[B, T, N, H]` to k and v `[B, T, K, H]` -> `[B, T, N, H]`.

    segments: int32 `[B, T]`; reach: how far a token sees, 0 for without end; interpret: run without
    a TPU.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels

    length, heads = q.shape[1:3]
    block = next(size for size in BLOCKS if length % size == 0)
    kernel = kernels.make_splash_mha(
        _mask(length, arch, reach, heads),
        # The first three are those of the forward, the others those of the backward pass.
        block_sizes=kernels.BlockSizes(block, block, block, block, block, block, block, block),
        attn_logits_soft_cap=arch.attention_softcap or None,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def of_row(q, k, v, segments):
        return kernel(q, k, v, segment_ids=kernels.SegmentIds(segments, segments))

    q = (q * arch.scale).astype(q.dtype)
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    return jax.vmap(of_row)(q, k, v, segments).swapaxes(1, 2).astype(q.dtype)


def _mask(length: int, arch: Arch, reach: int, heads: int):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    shape = (length, length)
    if reach:
        local = masks.LocalMask(shape, (reach, 0 if arch.causal else reach), 0)
        return masks.MultiHeadMask([local] * heads)
    whole = masks.CausalMask(shape) if arch.causal else masks.FullMask(shape)
    return masks.MultiHeadMask([whole] * heads)
