"""Checkpoints of vision shapes with random weights, and pictures; nothing is downloaded."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

# Width and height of pictures as they come from the web, telephones and screens.
MIX = (
    *((640, 480), (480, 640), (500, 375), (375, 500), (1024, 768)),
    *((768, 1024), (800, 600), (1280, 720), (512, 512), (1920, 1080)),
)
SPECIAL = ("<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>")
IMAGE = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
# No product reads the table of words. vLLM takes the first for the patches of CLIP and SigLIP.
WORDS = ("!", *SPECIAL, *IMAGE, *(f"w{i}" for i in range(502)))
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and how many layers its tower and its text have, all unless made fewer.

    kind: its model type; vision, text: fields of the configurations; facts: those of the model;
    processor: preprocessor_config.json.
    """

    kind: str
    layers: int
    vision: dict
    text: dict
    facts: dict
    processor: dict
    text_layers: int = 1  # where pictures are read by themselves the text tower is not run

    def of(self, layers: int) -> "Shape":
        """The same with at most `layers` in the tower and in the text."""
        return replace(
            self, layers=min(layers, self.layers), text_layers=min(layers, self.text_layers)
        )


TOWER = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16}
QWEN3 = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
QWEN3_TOWER = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_heads": 16,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "out_hidden_size": 2048,
    "num_position_embeddings": 2304,
}
SHAPES = {
    "CLIP-B/32": Shape(
        "clip",
        12,
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
        | {"image_size": 224, "patch_size": 32},
        {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
        {"projection_dim": 512},
        {"image_processor_type": "CLIPImageProcessor"},
    ),
    "SigLIP-so400m": Shape(
        "siglip",
        27,
        TOWER | {"image_size": 384, "patch_size": 14},
        TOWER,
        {},
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": 384, "width": 384}},
    ),
    "Qwen3-VL-2B": Shape(
        "qwen3_vl",
        24,
        QWEN3_TOWER,
        QWEN3,
        {"tie_word_embeddings": True},
        {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 16, "merge_size": 2}
        | {"size": {"shortest_edge": 4 * 32**2, "longest_edge": 1800 * 32**2}}
        | HALF,
        text_layers=28,
    ),
}
SMALL = {"hidden_size": 64, "num_attention_heads": 4, "num_heads": 4, "intermediate_size": 96}
SMALL |= {"num_key_value_heads": 2, "head_dim": 16, "out_hidden_size": 64}


def tiny(shape: Shape) -> Shape:
    """A shape of two narrow layers, for smoke tests."""
    vision, text = (
        fields | {name: SMALL[name] for name in SMALL if name in fields}
        for fields in (shape.vision, shape.text)
    )
    if "rope_parameters" in text:
        rope = text["rope_parameters"] | {"mrope_section": [4, 2, 2]}
        text["rope_parameters"] = rope
    return replace(shape, vision=vision, text=text).of(2)


def make(folder: Path, shape: Shape, device: str) -> None:
    """Write a shape as a folder that transformers and jaxpool load."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModel.from_config(_config(AutoConfig, shape), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(shape.processor))
    _tokenizer().save_pretrained(folder)


def _config(auto, shape: Shape):
    ids = {word: i for i, word in enumerate(WORDS)}
    depth = "depth" if shape.kind == "qwen3_vl" else "num_hidden_layers"
    vision = shape.vision | {depth: shape.layers}
    text = shape.text | {"num_hidden_layers": shape.text_layers, "vocab_size": len(WORDS)}
    text |= {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "pad_token_id": ids["</s>"]}
    facts = dict(shape.facts)
    if shape.kind == "qwen3_vl":
        names = ("vision_start", "image", "vision_end", "video")
        facts |= {f"{n}_token_id": ids[w] for n, w in zip(names, IMAGE, strict=True)}
        deep = [max(shape.layers * i // 4 - 1, i - 1) for i in (1, 2, 3)]  # 5, 11, 17 of 24
        vision["deepstack_visual_indexes"] = deep[: shape.layers]
    return auto.for_model(shape.kind, text_config=text, vision_config=vision, **facts)


def _tokenizer():
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in (*SPECIAL, *IMAGE)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=4096, **names)


def photos(count: int) -> Iterator[Image.Image]:
    """Different pictures of the sizes of `MIX` in turn: places of one, of smooth colours and noise.

    Resizing and patches cost the same whatever a picture shows.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:2400, :2400]
    waves = [127 + 90 * np.sin(x / (37 + 9 * c) + y / (31 + 5 * c)) for c in range(3)]
    noisy = np.stack(waves, -1) + rng.normal(0, 20, (2400, 2400, 3))
    whole = noisy.clip(0, 255).astype(np.uint8)
    for i in range(count):
        width, height = MIX[i % len(MIX)]
        top, left = rng.integers(2400 - height), rng.integers(2400 - width)
        yield Image.fromarray(whole[top : top + height, left : left + width].copy())
