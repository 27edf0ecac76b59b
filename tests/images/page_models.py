"""Small random models of late interaction between queries and pages, and torch's vectors."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2Config,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Model,
    Idefics3Processor,
    ModernVBertConfig,
    PaliGemmaConfig,
    Qwen2VLConfig,
    Qwen3VLModel,
)

from tests.images import joined_models
from tests.images.joined_models import HALF, IDS, TEXT, add_tokenizer, write_processor
from tests.parity import save_random

WIDTH = 24  # features of a token's vector
VISION = dict(
    model_type="siglip_vision_model",
    hidden_size=40,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=4,
    vision_use_head=False,
)


def colqwen2(folder: Path) -> Path:
    """ColQwen2 in transformers' layout."""
    joined_models.qwen2_vl(folder)
    vlm = Qwen2VLConfig.from_pretrained(folder)
    config = ColQwen2Config(vlm_config=vlm, embedding_dim=WIDTH)
    return save_random(ColQwen2ForRetrieval, config, folder)


def colpali(folder: Path) -> Path:
    """ColPali, of 36 patches a page."""
    text = {name: size for name, size in TEXT.items() if name != "max_position_embeddings"}
    vlm = PaliGemmaConfig(
        text_config=text | {"model_type": "gemma"},
        vision_config=VISION | {"image_size": 48, "patch_size": 8},
        image_token_index=IDS["<image>"],
        projection_dim=TEXT["hidden_size"],
    )
    config = ColPaliConfig(vlm_config=vlm, embedding_dim=WIDTH)
    # norms are stored less one in the text model, and as they are in the tower
    save_random(ColPaliForRetrieval, config, folder, scale=0.5)
    size = {"height": 48, "width": 48}
    write_processor(folder, "Siglip", size=size, image_seq_length=36, **HALF)
    add_tokenizer(folder, "<bos>", "<eos>", "<pad>")
    return folder


def colmodernvbert(folder: Path) -> Path:
    """ColModernVBERT, of tiles of 32 pixels and 4 tokens."""
    text = dict(
        model_type="modernbert",
        vocab_size=TEXT["vocab_size"],
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        local_attention=16,
        reference_compile=False,
        pad_token_id=IDS["<pad>"],
    )
    vlm = ModernVBertConfig(
        text_config=text,
        vision_config=VISION | {"image_size": 32, "patch_size": 8},
        image_token_id=IDS["<image>"],
        pixel_shuffle_factor=2,
    )
    config = ColModernVBertConfig(vlm_config=vlm, embedding_dim=WIDTH)
    save_random(ColModernVBertForRetrieval, config, folder)
    sizes = {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}}
    write_processor(folder, "Idefics3", **sizes, **HALF)
    add_tokenizer(folder)
    return folder


def colidefics3(folder: Path) -> Path:
    """ColSmol as its authors' code has it: Idefics3 and a linear layer."""
    config = Idefics3Config(
        text_config=TEXT | {"model_type": "llama", "pad_token_id": IDS["<pad>"]},
        vision_config={
            k: x for k, x in VISION.items() if k not in ("model_type", "vision_use_head")
        }
        | {"image_size": 32, "patch_size": 8},
        image_token_id=IDS["<image>"],
        scale_factor=2,
    )
    save_random(Idefics3ForConditionalGeneration, config, folder)
    tensors, rng = load_file(folder / "model.safetensors"), np.random.default_rng(0)
    for name, shape in (("weight", (WIDTH, TEXT["hidden_size"])), ("bias", (WIDTH,))):
        tensors[f"linear.{name}"] = rng.normal(0, 0.1, shape).astype(np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["ColIdefics3"]}
    (folder / "config.json").write_text(json.dumps(config))
    sizes = {"size": {"longest_edge": 96}, "max_image_size": {"longest_edge": 32}}
    write_processor(folder, "Idefics3", **sizes, **HALF)
    add_tokenizer(folder)
    return folder


class PageReference:
    """The vectors of transformers' model, and what its processor makes of queries and pages."""

    def __init__(self, folder: Path, model_class, processor_class, **options):
        self.model = model_class.from_pretrained(folder).eval()
        images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = processor_class(images, tokenizer, **options)

    def query(self, text: str) -> dict:
        """The inputs of a query."""
        return dict(self.processor.process_queries(text=[text]))

    def page(self, image) -> dict:
        """The inputs of a page."""
        return dict(self.processor.process_images(images=[image]))

    @torch.no_grad()
    def __call__(self, inputs: dict) -> np.ndarray:
        """The vectors of an input's tokens, of length 1."""
        return self.model(**inputs).embeddings[0].numpy()


class ColPaliReference(PageReference):
    """As its processor has it."""

    def __init__(self, folder: Path):
        super().__init__(folder, ColPaliForRetrieval, ColPaliProcessor)
        self.tokenizer = self.processor.tokenizer

    def inputs(self, made) -> dict:
        """Without labels, which are for training."""
        return {name: x for name, x in made.items() if name not in ("labels", "token_type_ids")}

    def query(self, text: str) -> dict:
        """The inputs of a query."""
        return self.inputs(super().query(text))

    def page(self, image) -> dict:
        """The inputs of a page."""
        return self.inputs(super().page(image))


class ColModernVBertReference(PageReference):
    """Of 4 tokens a tile."""

    def __init__(self, folder: Path):
        made = ColModernVBertForRetrieval, ColModernVBertProcessor
        super().__init__(folder, *made, image_seq_len=4)


class ColIdefics3Reference(PageReference):
    """Idefics3 and the linear layer, in the words of its authors' code."""

    def __init__(self, folder: Path):
        super().__init__(folder, Idefics3Model, Idefics3Processor, image_seq_len=4)
        tensors = load_file(folder / "model.safetensors")
        self.kernel, self.bias = tensors["linear.weight"], tensors["linear.bias"]

    def query(self, text: str) -> dict:
        """The inputs of a query."""
        text = f"Query: {text}" + "<end_of_utterance>" * 10
        return dict(self.processor.tokenizer([text], return_tensors="pt"))

    def page(self, image) -> dict:
        """The inputs of a page."""
        words = "<|im_start|>User:<image>Describe the image.<end_of_utterance>\nAssistant:"
        return dict(self.processor(text=[words], images=[image], return_tensors="pt"))

    @torch.no_grad()
    def __call__(self, inputs: dict) -> np.ndarray:
        """The vectors of an input's tokens, of length 1."""
        found = self.model(**inputs).last_hidden_state[0].numpy() @ self.kernel.T + self.bias
        return found / np.linalg.norm(found, axis=-1, keepdims=True)


class ColQwen2Reference(PageReference):
    """With the positions that the authors' code gives the tokens of images."""

    def __init__(self, folder: Path):
        super().__init__(folder, ColQwen2ForRetrieval, ColQwen2Processor)

    def page(self, image) -> dict:
        """The inputs of a page."""
        inputs = super().page(image)
        ids, grid = inputs["input_ids"], inputs["image_grid_thw"]
        kinds = (ids == self.model.config.vlm_config.image_token_id).int()
        places, _ = self.model.vlm.get_rope_index(ids, kinds, grid)
        return inputs | {"position_ids": places}


class NemotronReference(PageReference):
    """modeling_ and processing_qwen3_vl_nemotron_embed.py beside nemotron-colembed-vl-4b-v2.

    The model sees both ways, and its last norm is skipped.
    """

    def __init__(self, folder: Path):
        self.text = joined_models.QwenReference(folder, Qwen3VLModel)
        self.text.model.language_model.norm = torch.nn.Identity()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def read(self, content: str, images=()) -> dict:
        """The inputs of a user's turn, its images spread over four patches a token."""
        pixels = self.text.processor(images, return_tensors="pt") if images else {}
        count = int(pixels["image_grid_thw"].prod()) // 4 if images else 0
        content = content.replace("<|image_pad|>", "<|image_pad|>" * count)
        words = f"<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
        return {**self.tokenizer([words], return_tensors="pt"), **pixels}

    def query(self, text: str) -> dict:
        """The inputs of a query."""
        return self.read(f"Query: query: {text}")

    def page(self, image) -> dict:
        """The inputs of a page."""
        return self.read("<|vision_start|><|image_pad|><|vision_end|>passage: ", [image])

    @torch.no_grad()
    def __call__(self, inputs: dict) -> np.ndarray:
        """The vectors of an input's tokens, of length 1."""
        ids = inputs["input_ids"]
        kinds = (ids == joined_models.TOKEN_IDS["image_token_id"]).int()
        places, _ = self.text.model.get_rope_index(ids, kinds, inputs.get("image_grid_thw"))
        everything = torch.zeros(1, 1, *[ids.shape[1]] * 2)
        made = inputs | {"attention_mask": everything, "position_ids": places}
        found = self.text.model(**made, mm_token_type_ids=kinds).last_hidden_state[0].numpy()
        return found / np.linalg.norm(found, axis=-1, keepdims=True)


def nemotron_colembed(folder: Path) -> Path:
    """Qwen3-VL by another name."""
    joined_models.qwen3_vl(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["Qwen3VLNemotronEmbedModel"]}
    config |= {"model_type": "qwen3_vl_nemotron_embed"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# The model's folder, and its reference.
KINDS = {
    "colidefics3": (colidefics3, ColIdefics3Reference),
    "colmodernvbert": (colmodernvbert, ColModernVBertReference),
    "colpali": (colpali, ColPaliReference),
    "colqwen2": (colqwen2, ColQwen2Reference),
    "nemotron": (nemotron_colembed, NemotronReference),
}
