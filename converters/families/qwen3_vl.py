"""Qwen3-VL: embeddings, rerankers, and late interaction made of it (arXiv 2511.21631).

Prompts are those of the code on the cards of Qwen3-VL-Embedding and Qwen3-VL-Reranker.
"""

from dataclasses import replace

from converters.families.decoder import arch as decoder_arch
from converters.families.qwen import QWEN3
from converters.family import Family, dense, fused_attention, norm
from converters.joined import AS_WRITTEN, CHAT, interleaved, llama_names, qwen_tower, under
from converters.rotary import rotary
from jaxpool.nn.arch import Arch, Merger, Patches


def arch(config) -> Arch:
    """Qwen3 beside a tower whose layers feed its first ones."""
    text, vision = config.text_config, config.vision_config
    side, width = vision.spatial_merge_size, vision.hidden_size
    deep = tuple(vision.deepstack_visual_indexes)
    patches = Patches(
        vision.patch_size, stretched=True, corners=True, frames=vision.temporal_patch_size
    )
    merger = Merger(text.hidden_size, side, side**2 * width, norm="patch", deep=deep)
    tower = qwen_tower(
        vision,
        width,
        patches,
        merger,
        mlp_dim=vision.intermediate_size,
        positions=vision.num_position_embeddings,
    )
    table = rotary(text)
    sections = text.rope_parameters.get("mrope_section") or [24, 20, 20]
    turned = replace(table, axes=interleaved(sections, table.dim // 2))
    return decoder_arch(text, qk_norm="head", rotary=(turned,), vision=tower)


def merger_names(ours: str, theirs: str, letter: str) -> str:
    """The table of one merger."""
    return (
        norm(f"{ours}.norm", f"{theirs}.norm", letter)
        + dense(f"{ours}.up", f"{theirs}.linear_fc1", "u m")
        + dense(f"{ours}.down", f"{theirs}.linear_fc2", "t u")
    )


BLOCK = "blocks.{L}"
TOWER = (
    dense("embed.patch", "patch_embed.proj", "E c v h w")
    + "embed.position.embedding pos_embed.weight P E\n"
    + fused_attention(f"{BLOCK}.attn", "qkv", "proj")
    + norm("layers.attention_norm", f"{BLOCK}.norm1")
    + norm("layers.mlp_norm", f"{BLOCK}.norm2")
    + dense("layers.mlp.up", f"{BLOCK}.mlp.linear_fc1", "F D")
    + dense("layers.mlp.down", f"{BLOCK}.mlp.linear_fc2", "D F")
    + merger_names("merger", "merger", "D")
    + merger_names("deep", "deepstack_merger_list.{L}", "m")
)
NAMES = llama_names("language_model.") + under("visual.", TOWER, "vision.")
CONVERSATION = replace(AS_WRITTEN, seen=CHAT, read=CHAT, instruction="Represent the user's input.")
QWEN3_VL = Family(
    "Qwen3VL",
    arch,
    NAMES,
    prefix="model.",
    heads=QWEN3.heads,
    ignored=(r"^lm_head\.",),
    pool="lasttoken",
    conversation=CONVERSATION,
    processor="Qwen2VL",
    examples=("Qwen/Qwen3-VL-Embedding-2B", "Qwen/Qwen3-VL-Reranker-2B"),
)
