"""Small random models that read tiles of pictures among the tokens of a text, and torch's results.

Those whose code transformers does not have follow it here, made of transformers' own parts.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextModel,
    LlavaNextProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.images.joined_models import IDS, TEXT, add_tokenizer, write_processor
from tests.parity import save_random

SIDE = 32  # pixels of a tile's side
SIZES = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
POINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]
VISION = dict(
    hidden_size=40,
    intermediate_size=56,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=SIDE,
    patch_size=8,
)
CLIP = VISION | {"model_type": "clip_vision_model"}


def randomized(model: nn.Module) -> nn.Module:
    """The same with weights of std 0.1, those of norms around one."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            norm = "norm" in name and "weight" in name
            tensor.copy_(float(norm) + 0.1 * torch.randn_like(tensor))
    return model.eval()


def write(folder: Path, config: dict, tensors: dict) -> None:
    """A folder of a model whose code lies beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def llava_next(folder: Path) -> Path:
    """LLaVA-NeXT, of 16 tokens a tile: the last but one of three layers of CLIP is read."""
    config = LlavaNextConfig(
        text_config=TEXT | {"model_type": "mistral", "sliding_window": None},
        vision_config=CLIP,
        image_token_index=IDS["<image>"],
        image_grid_pinpoints=POINTS,
    )
    published = lambda name: name.replace("vision_tower.", "vision_tower.vision_model.")  # noqa: E731
    save_random(LlavaNextForConditionalGeneration, config, folder, published)
    write_processor(folder, "LlavaNext", image_grid_pinpoints=POINTS, **SIZES)
    add_tokenizer(folder, "<bos>", begins=True)
    return folder


def llava_tiles(processor, image: Image.Image) -> list[np.ndarray]:
    """The pixels of an image's tiles, the whole of it last."""
    plain = processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    whole, *tiles = plain["pixel_values"][0].transpose(0, 2, 3, 1)
    return [*tiles, whole]


class LlavaReference:
    """transformers' processor and model."""

    def __init__(self, folder: Path):
        self.model = LlavaNextModel.from_pretrained(folder).eval()
        images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        options = {"patch_size": 8, "vision_feature_select_strategy": "default"}
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = LlavaNextProcessor(
            images, tokenizer, num_additional_image_tokens=1, **options
        )
        self.inputs: dict = {}

    def read(self, text: str, images=()) -> tuple[np.ndarray, list[np.ndarray]]:
        """The ids of a prompt, and the pixels of each image's tiles, the whole of it last."""
        self.inputs = dict(self.processor(text=[text], images=images or None, return_tensors="pt"))
        processor = self.processor.image_processor
        found = [tile for image in images for tile in llava_tiles(processor, image)]
        return self.inputs["input_ids"][0].numpy(), found

    @torch.no_grad()
    def __call__(self, ids: np.ndarray, tiles: list[np.ndarray]) -> np.ndarray:
        """The last hidden state of what was read last."""
        return self.model(**self.inputs).last_hidden_state[0, -1].numpy()


class NemotronModel(nn.Module):
    """LlamaNemotronVLModel of modeling_llama_nemotron_vl.py, NVIDIA's (Apache-2.0)."""

    def __init__(self):
        super().__init__()
        width, text = VISION["hidden_size"], LlamaConfig(**TEXT)
        self.vision_model = SiglipVisionModel(SiglipVisionConfig(**VISION, vision_use_head=False))
        self.language_model = LlamaModel(text)
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, text.hidden_size),
            nn.GELU(),
            nn.Linear(text.hidden_size, text.hidden_size),
        )

    def see(self, pixels: torch.Tensor) -> torch.Tensor:
        """The vectors of tiles, four patches each."""
        x = self.vision_model(pixel_values=pixels).last_hidden_state
        count, patches, width = x.shape
        side = math.isqrt(patches)
        x = x.view(count, side, side // 2, width * 2).permute(0, 2, 1, 3).contiguous()
        x = x.view(count, side // 2, side // 2, width * 4).permute(0, 2, 1, 3)
        return self.mlp1(x.reshape(count, -1, width * 4))

    def forward(self, ids: torch.Tensor, pixels: torch.Tensor | None) -> torch.Tensor:
        """The last hidden states `[T, D]`: each token sees all others."""
        embeds = self.language_model.embed_tokens(ids)
        if pixels is not None:
            embeds[ids == IDS["<IMG_CONTEXT>"]] = self.see(pixels).flatten(0, 1)
        everything = torch.zeros(1, 1, len(ids), len(ids))
        out = self.language_model(inputs_embeds=embeds[None], attention_mask=everything)
        return out.last_hidden_state[0]


def nemotron_vl(folder: Path, rerank: bool = False) -> Path:
    """Llama-Nemotron-VL, of 4 tokens a tile."""
    model = randomized(NemotronModel())
    tensors = {
        name.replace("vision_model.", "vision_model.vision_model.", 1): tensor
        for name, tensor in model.state_dict().items()
        if "position_ids" not in name
    }
    if rerank:
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()}
        tensors["score.weight"] = torch.randn(1, TEXT["hidden_size"])
    kind = "ForSequenceClassification" if rerank else "Model"
    text = TEXT | {"architectures": ["LlamaBidirectionalModel"], "model_type": "llama_bidirec"}
    config = {
        "architectures": [f"LlamaNemotronVL{kind}"],
        "model_type": "llama_nemotron_vl_rerank" if rerank else "llama_nemotron_vl",
        "vision_config": VISION | {"model_type": "siglip_vision_model"},
        "llm_config": text | {"pooling": "avg", "temperature": 1.0},
        "pooling": "avg",
        "select_layer": -1,
        "force_image_size": SIDE,
        "downsample_ratio": 0.5,
        "img_context_token_id": IDS["<IMG_CONTEXT>"],
    }
    if rerank:
        config |= {"temperature": 0.5, "prompt_template": "v1", "id2label": {"0": "LABEL_0"}}
    write(folder, config, tensors)
    facts = {"image_size": SIDE, "max_input_tiles": 6, "use_thumbnail": True}
    (folder / "processor_config.json").write_text(json.dumps(facts))
    add_tokenizer(folder, "<bos>", begins=True)
    return folder


class NemotronReference:
    """processing_llama_nemotron_vl.py beside the models, and its model."""

    def __init__(self, folder: Path):
        tensors = load_file(folder / "model.safetensors")
        named = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
        self.score = named.pop("score.weight", None)
        self.model = NemotronModel().eval()
        own = {
            name.replace("vision_model.", "", 1): x for name, x in named.items() if "vision" in name
        }
        self.model.load_state_dict(named | own, strict=False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @staticmethod
    def tiles(image: Image.Image) -> list[Image.Image]:
        """`dynamic_preprocess`: at most 6 tiles, and the whole after several."""
        width, height = image.size
        aspect = width / height
        ratios = {
            (i, j)
            for n in range(1, 7)
            for i in range(1, n + 1)
            for j in range(1, n + 1)
            if 1 <= i * j <= 6
        }
        best, (cols, rows) = -math.inf, (1, 1)
        for i, j in sorted(ratios, key=lambda ratio: ratio[0] * ratio[1]):
            share = i * j * SIDE * SIDE / (width * height)
            factor = min(share, 0.6) * min(i / j / aspect, aspect / (i / j))
            if factor > best:
                best, (cols, rows) = factor, (i, j)
        large = image.resize((SIDE * cols, SIDE * rows))
        found = []
        for i in range(cols * rows):
            left, top = i % cols * SIDE, i // cols * SIDE
            found.append(large.crop((left, top, left + SIDE, top + SIDE)))
        return found if len(found) == 1 else [*found, image.resize((SIDE, SIDE))]

    def read(self, text: str, images=()) -> tuple[np.ndarray, list[np.ndarray]]:
        """The ids of a prompt in which images are <image>, and the pixels of their tiles."""
        found = []
        for image in images:
            tiles = self.tiles(image)
            found += [np.asarray(tile) for tile in tiles]
            text = text.replace("<image>", f"<img>{'<IMG_CONTEXT>' * 4 * len(tiles)}</img>", 1)
        return np.array(self.tokenizer(text).input_ids), found

    @torch.no_grad()
    def __call__(self, ids: np.ndarray, tiles: list[np.ndarray]) -> np.ndarray:
        """The mean of the last hidden states; the score of a pair."""
        pixels = None
        if tiles:
            values = np.stack(tiles).transpose(0, 3, 1, 2).astype(np.float32) / 255
            pixels = torch.from_numpy((values - 0.5) / 0.5)
        pooled = self.model(torch.tensor(ids), pixels).mean(dim=0)
        return (pooled if self.score is None else self.score @ pooled / 0.5).numpy()
