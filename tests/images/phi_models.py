"""A small random Phi-3-V: the code beside Phi-3.5-vision-instruct, made of transformers' parts."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tests.images.joined_models import IDS, TEXT, add_tokenizer, write_processor
from tests.images.tile_models import CLIP, SIDE, VISION, randomized, write


class PhiImages(nn.Module):
    """Phi3ImageEmbedding of image_embedding_phi3_v.py, Microsoft's (MIT), its sizes smaller."""

    def __init__(self):
        super().__init__()
        width, text = VISION["hidden_size"], TEXT["hidden_size"]
        self.img_processor = CLIPVisionModel(CLIPVisionConfig(**VISION))
        self.glb_GN = nn.Parameter(torch.zeros(1, 1, width * 4))
        self.sub_GN = nn.Parameter(torch.zeros(1, 1, 1, width * 4))
        self.img_projection = nn.Sequential(
            nn.Linear(width * 4, text), nn.GELU(), nn.Linear(text, text)
        )

    def lines(self, seen: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
        """Tiles joined to one picture, four patches a vector, a separator after each row."""
        count, patches, width = seen.shape
        side = math.isqrt(patches)
        x = seen.reshape(count, side // 2, 2, side // 2, 2, width).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(1, rows, cols, side // 2, side // 2, 4 * width).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(1, rows * side // 2, cols * side // 2, 4 * width)
        ends = self.sub_GN.repeat(1, rows * side // 2, 1, 1)
        return torch.cat([x, ends], dim=2).reshape(1, -1, 4 * width)

    def forward(self, pixels: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
        """The vectors of an image's tiles, the whole of it first."""
        seen = self.img_processor(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        whole, tiles = self.lines(seen[:1], 1, 1), self.lines(seen[1:], rows, cols)
        return self.img_projection(torch.cat([tiles, self.glb_GN, whole], dim=1))[0]


class PhiModel(nn.Module):
    """Phi3VModel of modeling_phi3_v.py."""

    def __init__(self):
        super().__init__()
        self.model = Phi3Model(Phi3Config(**TEXT, pad_token_id=0))
        self.model.vision_embed_tokens = PhiImages()

    def forward(self, ids: torch.Tensor, images: list) -> torch.Tensor:
        """The last hidden states `[T, D]`; negative ids are those of images."""
        embeds = self.model.embed_tokens(ids.clamp_min(0))
        for number, image in enumerate(images, start=1):
            embeds[ids == -number] = self.model.vision_embed_tokens(*image)
        return self.model(inputs_embeds=embeds[None]).last_hidden_state[0]


def phi3_v(folder: Path) -> Path:
    """Phi-3-V, of 4 vectors a tile and two separators."""
    model = randomized(PhiModel())
    tower = "vision_embed_tokens.img_processor."
    tensors = {
        name.replace(tower, f"{tower}vision_model."): tensor
        for name, tensor in model.state_dict().items()
        if "position_ids" not in name
    }
    config = TEXT | {
        "architectures": ["Phi3VForCausalLM"],
        "model_type": "phi3_v",
        "vision_config": CLIP,
        "img_processor": {"name": "clip_vision_model", "layer_idx": -2, "type_feature": "patch"},
        "embd_layer": {
            "use_hd_transform": True,
            "with_learnable_separator": True,
            "projection_cls": "mlp",
            "hd_transform_order": "sub_glb",
        },
        "pad_token_id": 0,
    }
    write(folder, config, tensors)
    write_processor(folder, "Phi3V", image_size=SIDE, num_crops=5)
    add_tokenizer(folder, "<bos>", begins=True)
    return folder


class PhiReference:
    """processing_ and image_processing_phi3_v.py, and their model."""

    def __init__(self, folder: Path):
        self.model = PhiModel().eval()
        named = load_file(folder / "model.safetensors")
        named = {name.replace("or.vision_model.", "or."): x for name, x in named.items()}
        self.model.load_state_dict(named)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.ids: list[int] = []
        self.images: list = []

    @staticmethod
    def padded(image: Image.Image) -> Image.Image:
        """`HD_transform`, of 5 tiles at most."""
        tall = image.width < image.height
        image = image.transpose(Image.TRANSPOSE) if tall else image
        ratio, scale = image.width / image.height, 1
        while scale * np.ceil(scale / ratio) <= 5:
            scale += 1
        width = (scale - 1) * SIDE
        image = image.resize((width, int(width / ratio)), Image.BILINEAR)
        height = int(np.ceil(image.height / SIDE) * SIDE)
        framed = Image.new("RGB", (width, height), (255, 255, 255))
        framed.paste(image, (0, int((height - image.height) / 2)))
        return framed.transpose(Image.TRANSPOSE) if tall else framed

    @classmethod
    def tiles(cls, image: Image.Image) -> list[np.ndarray]:
        """The pixels of the tiles and of the whole, which is made of them."""
        pixels = torch.from_numpy(np.array(cls.padded(image)))
        rows, cols = (size // SIDE for size in pixels.shape[:2])
        tiles = pixels.reshape(rows, SIDE, cols, SIDE, 3).permute(0, 2, 1, 3, 4)
        large = pixels.permute(2, 0, 1)[None].float()
        whole = nn.functional.interpolate(large, size=(SIDE, SIDE), mode="bicubic")[0]
        return [*tiles.reshape(-1, SIDE, SIDE, 3).numpy(), whole.permute(1, 2, 0).numpy()]

    def read(self, text: str, images=()) -> tuple[np.ndarray, list[np.ndarray]]:
        """The ids of a prompt in which images are <|image_1|>, and the pixels of their tiles."""
        first, *texts = re.split(r"<\|image_\d+\|>", text)
        self.ids, self.images, found = self.tokenizer(first).input_ids, [], []
        mean, std = (np.array(x, np.float32) for x in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
        for number, (image, after) in enumerate(zip(images, texts, strict=True), start=1):
            height, width = np.array(self.padded(image)).shape[:2]
            rows, cols = height // SIDE, width // SIDE
            count = (rows * cols + 1) * 4 + 1 + (rows + 1) * 2
            self.ids = [*self.ids, *[-number] * count, *self.tokenizer(after).input_ids]
            tiles = self.tiles(image)
            found += tiles
            values = (np.stack([tiles[-1], *tiles[:-1]]).astype(np.float32) / 255 - mean) / std
            self.images.append((torch.from_numpy(values).permute(0, 3, 1, 2), rows, cols))
        ids = np.array(self.ids)
        return np.where(ids < 0, IDS["<|image|>"], ids), found

    @torch.no_grad()
    def __call__(self, ids: np.ndarray, tiles: list[np.ndarray]) -> np.ndarray:
        """The last hidden state of what was read last."""
        return self.model(torch.tensor(self.ids), self.images)[-1].numpy()
