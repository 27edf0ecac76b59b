"""Qwen2.5-VL, and embeddings made of it (arXiv 2502.13923).

Most layers of the tower attend within squares of an image. Prompts are the caller's, but for those
of the models that colpali-engine made (see `colqwen`).
"""

from dataclasses import replace

from converters.families.qwen2_vl import QWEN2_VL
from converters.family import dense, fused_attention, norm
from converters.joined import AS_WRITTEN, llama_names, qwen2_vl, under
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Qwen2 beside the tower."""
    vision = config.vision_config
    square = vision.window_size // vision.spatial_merge_size // vision.patch_size
    square *= vision.spatial_merge_size
    whole = vision.fullatt_block_indexes
    return qwen2_vl(
        config,
        vision.hidden_size,
        mlp_dim=vision.intermediate_size,
        norm="rms",
        gated=True,
        windows=tuple(0 if layer in whole else square for layer in range(vision.depth)),
    )


BLOCK = "blocks.{L}"
TOWER = (
    dense("embed.patch", "patch_embed.proj", "E c v h w")
    + fused_attention(f"{BLOCK}.attn", "qkv", "proj")
    + norm("layers.attention_norm", f"{BLOCK}.norm1")
    + norm("layers.mlp_norm", f"{BLOCK}.norm2")
    + dense("layers.mlp.gate", f"{BLOCK}.mlp.gate_proj", "F D")
    + dense("layers.mlp.up", f"{BLOCK}.mlp.up_proj", "F D")
    + dense("layers.mlp.down", f"{BLOCK}.mlp.down_proj", "D F")
    + norm("merger.norm", "merger.ln_q")
    + dense("merger.up", "merger.mlp.0", "u m")
    + dense("merger.down", "merger.mlp.2", "t u")
)
QWEN2_5_VL = replace(
    QWEN2_VL,
    name="Qwen2_5_VL",
    arch=arch,
    names=llama_names("model.") + under("visual.", TOWER, "vision."),
    conversation=AS_WRITTEN,
    examples=("Qwen/Qwen2.5-VL-3B-Instruct",),
)
