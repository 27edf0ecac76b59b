"""Phi-3-V: CLIP reads tiles of an image, Phi-3 their tokens; embeddings made of it by VLM2Vec.

Tiles, separators and tokens are those of the code beside Phi-3.5-vision-instruct, which also has
the sizes of its CLIP; the words of an image alone those of VLM2Vec's authors (arXiv 2410.05160).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converters.families.clip import SEEN
from converters.families.clip import vision_arch as clip_arch
from converters.families.decoder import HEADS
from converters.families.phi3 import PHI3, phi3_arch
from converters.families.phi3 import unfold as named
from converters.family import Family, dense
from converters.joined import under
from converters.towers import IGNORED, after, until
from jaxpool.images.conversation import Conversation
from jaxpool.images.tiles import TileGrid
from jaxpool.nn.arch import Arch, Merger

CLIP: dict[str, Any] = {"model_type": "clip_vision_model"}  # openai/clip-vit-large-patch14-336
CLIP |= {"image_size": 336, "patch_size": 14, "num_hidden_layers": 24, "num_attention_heads": 16}
CLIP |= {"hidden_size": 1024, "intermediate_size": 4096}
ORDER = {
    "use_hd_transform": True,
    "with_learnable_separator": True,
    "projection_cls": "mlp",
    "hd_transform_order": "sub_glb",
}


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields under the names of a transformers class that has both parts."""
    own, rope = named(raw), named(raw).get("rope_scaling")
    shared = {x: own[x] for x in own.keys() - {"rope_scaling", "vision_config"}}
    turn = {"rope_parameters": {"rope_theta": own.get("rope_theta", 1e4), **rope}} if rope else {}
    vision = CLIP | (own.get("vision_config") or {})
    made = {"text_config": shared | turn | {"model_type": "phi3"}, "vision_config": vision}
    return shared | made | {"model_type": "llava_next"}


def layer(config) -> int:
    """The layer of CLIP that is read."""
    return config.img_processor.get("layer_idx", -2)


def arch(config) -> Arch:
    """Phi-3 beside CLIP."""
    found = {name: config.embd_layer.get(name) for name in ORDER}
    if found != ORDER or config.img_processor.get("type_feature", "patch") != "patch":
        raise ValueError(f"config.json: embd_layer must have {ORDER}, found {found}")
    text, width = phi3_arch(config.text_config), config.text_config.hidden_size
    merger = Merger(width, 2, hidden=width, marks=("line", "between"), merged_marks=True)
    tower = until(clip_arch(config), layer(config))
    patches = tower.patches and replace(tower.patches, dtype="float32")
    return text.replace(vision=tower.replace(patches=patches, merger=merger))


BESIDE = (
    SEEN.replace("vision_model.", "img_processor.vision_model.")
    + dense("vision.merger.up", "img_projection.0", "u m")
    + dense("vision.merger.down", "img_projection.2", "t u")
    + "vision.merger.marks.line.embedding     sub_GN  1 1 1 m\n"
    + "vision.merger.marks.between.embedding  glb_GN  1 1 m\n"
)
PHI3_V = Family(
    "Phi3V",
    arch,
    PHI3.table(None) + under("vision_embed_tokens.", BESIDE),
    prefix="model.",
    heads=HEADS,
    renames=((r"vision_embed_tokens\.wte\.", "embed_tokens."),),
    ignored=(*IGNORED, r"^lm_head\."),
    unread=lambda config: after(config.vision_config.num_hidden_layers, layer(config)),
    pool="lasttoken",
    config="llava_next",
    unfold=unfold,
    conversation=Conversation(
        placeholder="<|image|>",
        image="<|image|> ",
        written=r"<\|image_(\d+)\|>",
        tiles=TileGrid(cropped=False, first=False, lines=True, between=True),
        caption="Represent the given image.",
        apart=True,
    ),
    processor="Phi3V",
    examples=("TIGER-Lab/VLM2Vec-Full",),
)
