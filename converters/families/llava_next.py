"""LLaVA-NeXT: CLIP reads tiles of an image, Llama or Mistral their tokens.

E5-V is asked as on its card (arXiv 2407.12580), with an image and a text as by its authors' code;
VLM2Vec and others in the words of their callers.
"""

import re
from dataclasses import replace

from converters.families import clip
from converters.families.decoder import HEADS
from converters.families.decoder import arch as decoder_arch
from converters.family import Family, activation, dense
from converters.heads.rerankers import own_name
from converters.joined import llama_names
from converters.towers import IGNORED, after, until
from jaxpool.images.conversation import Conversation
from jaxpool.images.tiles import TileGrid
from jaxpool.nn.arch import Arch, Merger


def arch(config) -> Arch:
    """The text model beside CLIP."""
    text, known = config.text_config, ("llama", "mistral")
    width = text.hidden_size
    if text.model_type not in known or config.vision_feature_select_strategy != "default":
        raise ValueError(
            f"config.json: wanted a text_config of {known} and vision_feature_select_strategy "
            f"'default', found {text.model_type!r} and {config.vision_feature_select_strategy!r}"
        )
    act, bias = activation(config.projector_hidden_act), config.multimodal_projector_bias
    merger = Merger(width, hidden=width, activation=act, bias=bias, marks=("line",))
    tower = until(clip.vision_arch(config), config.vision_feature_layer)
    return decoder_arch(text, vision=tower.replace(merger=merger))


def unread(config) -> tuple[str, ...]:
    """What CLIP has after the layer that is read."""
    return after(config.vision_config.num_hidden_layers, config.vision_feature_layer)


NAMES = (
    llama_names("language_model.model.")
    + clip.SEEN.replace("vision_model.", "vision_tower.vision_model.")
    + dense("vision.merger.up", "multi_modal_projector.linear_1", "u m")
    + dense("vision.merger.down", "multi_modal_projector.linear_2", "t u")
    + "vision.merger.marks.line.embedding image_newline t\n"
)
AS_WRITTEN = Conversation(
    placeholder="<image>",
    image="<image> ",
    tiles=TileGrid(cropped=True, first=True, lines=False, between=False),
)
# Spelled as in the authors' evaluation on CIRR.
CHANGED = '{images}Modify this image with "{content}", desribe modified image in one word:'
CHAT = (
    "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n \n"
)
E5V = replace(
    AS_WRITTEN,
    image="<image>",
    seen=CHAT.format("{images}{content}\nSummary above image in one word: "),
    both=CHAT.format(CHANGED),
    read=CHAT.format("{content}\nSummary above sentence in one word: "),
)


def conversation(name: str, config) -> Conversation:
    """The words of a model, by its name."""
    return E5V if re.search("^e5-?v", own_name(name).lower()) else AS_WRITTEN


LLAVA_NEXT = Family(
    "LlavaNext",
    arch,
    NAMES,
    heads=HEADS,
    renames=(
        (r"^model\.", ""),
        (r"^language_model\.(?!model\.|lm_head\.)", "language_model.model."),
        (r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model."),
    ),
    ignored=(*IGNORED, r"(^|\.)lm_head\."),
    unread=unread,
    pool="lasttoken",
    conversation=conversation,
    processor="LlavaNext",
    examples=("royokong/e5-v", "TIGER-Lab/VLM2Vec-LLaVa-Next"),
)
