"""Small random models that read pictures alone, and what transformers' torch models give."""

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoImageProcessor

from tests.parity import save_random

SIDE = 56
SIZES = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=SIDE,
    patch_size=14,
)
MLP = {"intermediate_size": 48}
TABLE = {"image_size": 84}  # of positions, which pictures of 56 pixels shrink
VISION = {"vision_config": SIZES | MLP}
SQUARE = {"size": {"height": SIDE, "width": SIDE}}
CROPPED = {"size": {"shortest_edge": 70}, "crop_size": {"height": SIDE, "width": SIDE}}
# the model's class, the fields of its configuration, the processor and its fields
KINDS = {
    "dinov2": ("Dinov2Model", SIZES | TABLE, "Bit", CROPPED),
    "dinov2-enlarged": ("Dinov2Model", SIZES | {"image_size": 28}, "Bit", CROPPED),
    "dinov2-gated": ("Dinov2Model", SIZES | {"use_swiglu_ffn": True}, "Bit", CROPPED),
    "dinov2-oblong": (
        "Dinov2Model",
        SIZES | TABLE,
        "Bit",
        CROPPED | {"crop_size": {"height": 42, "width": 70}},
    ),
    "dinov2-classifier": ("Dinov2ForImageClassification", SIZES | TABLE, "Bit", CROPPED),
    "registers": ("Dinov2WithRegistersModel", SIZES | TABLE, "Bit", CROPPED),
    "registers-classifier": (
        "Dinov2WithRegistersForImageClassification",
        SIZES | {"num_register_tokens": 3},
        "Bit",
        CROPPED,
    ),
    "vit": ("ViTModel", SIZES | MLP, "ViT", SQUARE),
    "vit-classifier": ("ViTForImageClassification", SIZES | MLP, "ViT", SQUARE),
    "clip-classifier": ("CLIPForImageClassification", VISION, "CLIP", CROPPED),
    "siglip-classifier": ("SiglipForImageClassification", VISION, "Siglip", SQUARE),
}


def save(folder: Path, kind: str) -> Path:
    """The folder of a model."""
    name, fields, processor, facts = KINDS[kind]
    model_class = getattr(transformers, name)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "house"}} if "Classification" in name else {}
    save_random(model_class, model_class.config_class(**fields, **labels), folder)
    write_processor(folder, processor, facts)
    return folder


def write_processor(folder: Path, kind: str, facts: dict) -> None:
    """Write preprocessor_config.json."""
    facts = {"image_processor_type": f"{kind}ImageProcessor"} | facts
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))


class Reference:
    """Logits of a classifier, the class token of other models, one picture at a time."""

    def __init__(self, folder: Path, kind: str):
        self.model = getattr(transformers, KINDS[kind][0]).from_pretrained(folder).eval()
        self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")

    @torch.no_grad()
    def __call__(self, image) -> np.ndarray:
        """What the model gives for a picture."""
        found = self.model(**self.processor(image, return_tensors="pt"))
        logits = getattr(found, "logits", None)
        return (found.last_hidden_state[0, 0] if logits is None else logits[0]).numpy()
