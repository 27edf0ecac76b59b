"""Qwen2-VL, and embeddings made of it (arXiv 2409.12191).

GME is asked as the code of its authors does, which counts the tokens of images like those of texts
(it also resizes an image twice where that is beyond its limits; here once). DSE and what is made
of it have the words of DSE's card. Those of others are not known: their prompts are the caller's.
"""

import re
from dataclasses import replace

from converters.families.decoder import HEADS
from converters.family import Family, dense, fused_attention, norm
from converters.heads.rerankers import own_name
from converters.joined import AS_WRITTEN, CHAT, llama_names, qwen2_vl, under
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Qwen2 beside a tower whose only positions are turned."""
    vision = config.vision_config
    return qwen2_vl(config, vision.embed_dim, mlp_dim=int(vision.embed_dim * vision.mlp_ratio))


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
NAMES = llama_names("model.") + under("visual.", TOWER, "vision.")
# What transformers has in memory, and some files; it writes the names of its older releases.
RENAMES = ((r"^model\.visual\.", "visual."), (r"^(model\.)?language_model\.", "model."))
ENDED = CHAT + "<|endoftext|>"
HELPFUL = "You are a helpful assistant."
GME = replace(AS_WRITTEN, seen=ENDED, read=ENDED, instruction=HELPFUL, counted=True)


def _of_a_page(text: str) -> str:
    """The words of a text in a model of pages, which reads a black image before each text."""
    return ENDED.format(instruction=HELPFUL, content=AS_WRITTEN.image + text)


DSE = replace(
    AS_WRITTEN,
    seen=ENDED.replace("{instruction}", HELPFUL),
    read=_of_a_page("Query: {content}"),
    sides={"document": _of_a_page("Document: {content}")},
    caption="What is shown in this image?",
    blank=56,
)
WORDS = {"^gme-qwen2-?vl": GME, "^dse-qwen2|^vdr-2b-multi": DSE}  # by the model's name


def conversation(name: str, config) -> Conversation:
    """The words of a model, by the name it is asked for as."""
    known = (words for like, words in WORDS.items() if re.search(like, own_name(name).lower()))
    return next(known, AS_WRITTEN)


QWEN2_VL = Family(
    "Qwen2VL",
    arch,
    NAMES,
    heads=HEADS,
    renames=RENAMES,
    ignored=(r"^lm_head\.",),
    pool="lasttoken",
    conversation=conversation,
    processor="Qwen2VL",
    examples=("Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", "MrLight/dse-qwen2-2b-mrl-v1"),
)
