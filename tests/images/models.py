"""Small random models of two towers, with a tokenizer and an image processor."""

import json
from pathlib import Path

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

from tests.parity import save_random
from tests.small import add_tokenizer

LENGTH = 40  # positions of the text towers
TEXT = dict(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=30522,
    max_position_embeddings=LENGTH,
    bos_token_id=101,
    eos_token_id=102,
    pad_token_id=0,
)
VISION = dict(
    hidden_size=40,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=4,
    image_size=56,
    patch_size=14,
)
CLIP_SIZES = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
KINDS = {
    "clip": (CLIPConfig, CLIPModel, "CLIP", CLIP_SIZES),
    "siglip": (SiglipConfig, SiglipModel, "Siglip", {"size": {"height": 56, "width": 56}}),
    "siglip2": (Siglip2Config, Siglip2Model, "Siglip2", {"patch_size": 14, "max_num_patches": 30}),
}


def save(folder: Path, kind: str, text: dict | None = None, vision: dict | None = None) -> Path:
    """The folder of a model; `text` and `vision` change the configurations of its towers."""
    make_config, model_class, processor, facts = KINDS[kind]
    vision = VISION | (vision or {})
    more = {"projection_dim": 24} if kind == "clip" else {}
    if kind == "siglip2":
        vision = {name: x for name, x in vision.items() if name != "image_size"}
        vision["num_patches"] = 16
    config = make_config(text_config=TEXT | (text or {}), vision_config=vision, **more)
    add_tokenizer(save_random(model_class, config, folder))
    facts = {"image_processor_type": f"{processor}ImageProcessor"} | facts
    (folder / "preprocessor_config.json").write_text(json.dumps(facts))
    return folder


def add_clip_tokenizer(folder: Path) -> int:
    """Replace a folder's tokenizer by CLIP's, of single bytes; returns the id of the end."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    for name in ("vocab.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    return len(words) - 1


class Reference:
    """What transformers' torch model gives for a folder, one text or picture at a time."""

    def __init__(self, folder: Path, kind: str):
        self.model = KINDS[kind][1].from_pretrained(folder).eval()
        self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.padded = kind != "clip"

    @torch.no_grad()
    def picture(self, image) -> np.ndarray:
        """The vector of a picture, not normalized."""
        values = self.processor(image, return_tensors="pt")
        return self.model.get_image_features(**values).pooler_output[0].numpy()

    @torch.no_grad()
    def text(self, ids: np.ndarray) -> np.ndarray:
        """The vector of token ids, not normalized."""
        ids = np.pad(ids, (0, LENGTH - len(ids))) if self.padded else ids
        ids = torch.tensor(ids[None].astype(np.int64))
        return self.model.get_text_features(input_ids=ids).pooler_output[0].numpy()
