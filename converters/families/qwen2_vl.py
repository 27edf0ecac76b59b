"""Qwen2-VL, and embeddings made of it (arXiv 2409.12191).

GME is asked as the code of its authors does, which counts the tokens of images like those of texts
(it also resizes an image twice where that is beyond its limits; here once). The words of others
are not known here: their prompts are the caller's.
"""

import re
from dataclasses import replace

from converters.families.decoder import HEADS
from converters.families.decoder import arch as decoder_arch
from converters.family import Family, dense, fused_attention, norm
from converters.heads.rerankers import own_name
from converters.joined import blocks, llama_names, qwen_tower, under
from converters.rotary import rotary
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch, Merger, Patches


def arch(config) -> Arch:
    """Qwen2 beside a tower whose only positions are turned."""
    text, vision = config.text_config, config.vision_config
    side, width = vision.spatial_merge_size, vision.embed_dim
    tower = qwen_tower(
        vision,
        width,
        Patches(vision.patch_size, bias=False, frames=vision.temporal_patch_size),
        Merger(text.hidden_size, side, side**2 * width, norm="patch"),
        mlp_dim=int(width * vision.mlp_ratio),
    )
    table = rotary(text)
    sections = text.rope_parameters.get("mrope_section") or [16, 24, 24]
    turned = replace(table, axes=blocks(sections))
    return decoder_arch(text, qkv_bias=True, out_bias=False, rotary=(turned,), vision=tower)


BLOCK = "blocks.{L}"
TOWER = (
    dense("embed.patch", "patch_embed.proj", "E c v h w")
    + fused_attention(f"{BLOCK}.attn", "qkv", "proj")
    + norm("layers.attention_norm", f"{BLOCK}.norm1")
    + norm("layers.mlp_norm", f"{BLOCK}.norm2")
    + dense("layers.mlp.up", f"{BLOCK}.mlp.fc1", "F D")
    + dense("layers.mlp.down", f"{BLOCK}.mlp.fc2", "D F")
    + norm("merger.norm", "merger.ln_q")
    + dense("merger.up", "merger.mlp.0", "u m")
    + dense("merger.down", "merger.mlp.2", "t u")
)
NAMES = llama_names("language_model.") + under("visual.", TOWER, "vision.")
# Files of older releases have the text model where newer ones have both.
RENAMES = (
    (r"^(visual|language_model)\.", r"model.\1."),
    (r"^model\.(layers|embed_tokens|norm)\.", r"model.language_model.\1."),
)
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
AS_WRITTEN = Conversation(placeholder="<|image_pad|>", image=IMAGE)
CHAT = (
    "<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
    "<|im_start|>assistant\n<|endoftext|>"
)
HELPFUL = "You are a helpful assistant."
GME = replace(AS_WRITTEN, seen=CHAT, read=CHAT, instruction=HELPFUL, counted=True)


def conversation(name: str) -> Conversation:
    """The words of a model, by the name it is asked for as."""
    return GME if re.search("^gme-qwen2-?vl", own_name(name).lower()) else AS_WRITTEN


QWEN2_VL = Family(
    "Qwen2VL",
    arch,
    NAMES,
    prefix="model.",
    heads=HEADS,
    renames=RENAMES,
    ignored=(r"^lm_head\.",),
    pool="lasttoken",
    conversation=conversation,
    processor="Qwen2VL",
    examples=("Alibaba-NLP/gme-Qwen2-VL-2B-Instruct",),
)
