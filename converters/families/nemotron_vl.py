"""Llama-Nemotron-VL: SigLIP reads tiles of a page, bidirectional Llama their tokens and a text's.

Files, prompts and pooling are those of the code beside llama-nemotron-embed-vl-1b-v2
(configuration_, modeling_ and processing_llama_nemotron_vl.py), the number of tiles that of its
card. Pixels are not rounded to bfloat16, as they are there.
"""

from collections.abc import Mapping
from typing import Any

from converters.families.bidirectional import pool
from converters.families.decoder import arch as decoder_arch
from converters.family import Family, dense, norm
from converters.joined import llama_names
from converters.towers import PICTURES, vision_arch
from jaxpool.images.conversation import Conversation
from jaxpool.images.tiles import TileWords
from jaxpool.nn.arch import Arch, Merger

TEXTS = {"LlamaBidirectionalModel", "LlamaBidirectionalForSequenceClassification"}
EPSILON = 1e-5  # of torch's LayerNorm, where the tower has another


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under the names of a transformers class that has both parts.

    `pooling` is then as the authors' class has it where the file says nothing.
    """
    for name in raw.get("architectures") or ():
        if not name.startswith("LlamaNemotronVL"):  # the 3B model of ColEmbed gives tokens' vectors
            raise ValueError(f"config.json: wanted LlamaNemotronVLModel, found {name}")
    text = dict(raw["llm_config"])
    if not TEXTS & set(text.get("architectures") or ()):
        raise ValueError(
            f"config.json: llm_config must be one of {sorted(TEXTS)}, "
            f"found {text.get('architectures')}"
        )
    fields = {name: value for name, value in raw.items() if name != "llm_config"}
    parts = {"model_type": "llava_next", "text_config": text | {"model_type": "llama"}}
    return {"pooling": "last"} | fields | parts


def arch(config) -> Arch:
    """Llama that sees both ways beside SigLIP."""
    text, side = config.text_config, round(1 / config.downsample_ratio)
    if config.select_layer != -1 or side * config.downsample_ratio != 1:
        raise ValueError(
            "config.json: wanted select_layer -1 and a downsample_ratio of one in a whole number, "
            f"found {config.select_layer} and {config.downsample_ratio}"
        )
    width = text.hidden_size
    merger = Merger(width, side, hidden=width, norm="joined", norm_eps=EPSILON)
    return decoder_arch(text, causal=False, vision=vision_arch(config, merger=merger))


NAMES = (
    llama_names("language_model.")
    + PICTURES.replace("vision_model.", "vision_model.vision_model.")
    + norm("vision.merger.norm", "mlp1.0", "m")
    + dense("vision.merger.up", "mlp1.1", "u m")
    + dense("vision.merger.down", "mlp1.3", "t u")
)
IMAGE = "<IMG_CONTEXT>"
WORDS = Conversation(
    placeholder=IMAGE,
    image=f"{IMAGE} ",
    written="<image>",
    tiles=TileWords("{image}", "", "{image}</img>", "<img>{image}</img>", start="<img>"),
    seen="passage: {images}{content}",
    sides={"query": "query: {content}", "document": "passage: {content}"},
)
NEMOTRON_VL = Family(
    "LlamaNemotronVL",
    arch,
    NAMES,
    prefix="model.",
    renames=(
        (r"^(model\.)?vision_model\.(?!vision_model\.)", r"\1vision_model.vision_model."),
        (r"language_model\.model\.", "language_model."),
    ),
    ignored=(r"vision_model\.head\.", r"language_model\.lm_head\."),
    pool=pool,
    config="llava_next",
    aliases={"temperature": "score_temperature"},  # transformers drops it as one of generation
    unfold=unfold,
    conversation=WORDS,
    processor="LlamaNemotronVL",
    examples=("nvidia/llama-nemotron-embed-vl-1b-v2",),
)
