"""EVA02's vision tower (arXiv 2303.11331), as jina-clip has it."""

from collections.abc import Mapping
from typing import Any

from converters.family import dense, norm
from jaxpool.nn.arch import Arch, Patches, Rotary


def vision_arch(facts: Mapping[str, Any]) -> Arch:
    """Rows turn the first half of a head's features, columns the rest; keys have no bias."""
    dim, side = facts["width"], facts["image_size"] // facts["patch_size"]
    heads = dim // facts["head_width"]
    features, quarter = dim // heads, dim // heads // 4
    table = Rotary(
        10000.0,
        features,
        interleaved=True,
        scaling="linear",
        factor=side / facts["pt_hw_seq_len"],
        axes=(0,) * quarter + (1,) * quarter,
        repeats=2,
    )
    return Arch(
        vocab=0,
        layers=facts["layers"],
        dim=dim,
        heads=heads,
        kv_heads=heads,
        head_dim=features,
        mlp_dim=int(dim * facts["mlp_ratio"]),
        placement="pre",
        norm_eps=1e-6,
        sub_norm=True,
        qkv_bias=facts["qkv_bias"],
        key_bias=False,
        gated=True,
        activation="silu",
        final_norm=True,
        rotary=(table,),
        positions=side**2 + 1,
        max_length=side**2 + 1,
        patches=Patches(facts["patch_size"], class_token=True),
    )


BLOCK = "vision_model.blocks.{L}"
VISION = (
    """
vision.embed.class.embedding     vision_model.cls_token  1 1 E
vision.embed.position.embedding  vision_model.pos_embed  1 P E
"""
    + dense("vision.embed.patch", "vision_model.patch_embed.proj", "E c h w")
    + norm("vision.layers.attention_norm", f"{BLOCK}.norm1")
    + f"""
vision.layers.attention.query.kernel {BLOCK}.attn.q_proj.weight (N H) D
vision.layers.attention.query.bias   {BLOCK}.attn.q_bias        (N H)
vision.layers.attention.key.kernel   {BLOCK}.attn.k_proj.weight (K H) D
vision.layers.attention.value.kernel {BLOCK}.attn.v_proj.weight (K H) D
vision.layers.attention.value.bias   {BLOCK}.attn.v_bias        (K H)
"""
    + norm("vision.layers.attention.sub_norm", f"{BLOCK}.attn.inner_attn_ln", "(N H)")
    + dense("vision.layers.attention.out", f"{BLOCK}.attn.proj", "D (N H)")
    + norm("vision.layers.mlp_norm", f"{BLOCK}.norm2")
    + dense("vision.layers.mlp.gate", f"{BLOCK}.mlp.w1", "F D")
    + dense("vision.layers.mlp.up", f"{BLOCK}.mlp.w2", "F D")
    + norm("vision.layers.mlp.sub_norm", f"{BLOCK}.mlp.ffn_ln", "F")
    + dense("vision.layers.mlp.down", f"{BLOCK}.mlp.w3", "D F")
    + norm("vision.norm", "vision_model.norm")
)
