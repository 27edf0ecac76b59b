"""Small random checkpoints with a real tokenizer, and what compares on them."""

import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from jaxpool import LLM
from tests.conftest import MINILM
from tests.parity import save_random

DIM = 32
TEXTS = [
    "Hello world",
    "a much longer sentence about cats and dogs, and the mice they chase all over the house",
    "",
    "日本語のテキスト 🙂",
    "Berlin is the capital of Germany",
]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def config(**changes):
    """A BERT of two narrow layers over MiniLM's vocabulary."""
    sizes = {
        "vocab_size": 30522,
        "hidden_size": DIM,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    return BertConfig(**(sizes | changes))


def add_tokenizer(folder: Path) -> Path:
    """Put MiniLM's tokenizer into a folder."""
    from converters.files.locate import resolve

    source = resolve(MINILM)
    for name in TOKENIZER:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    return folder


def save(folder: Path, model_class=BertModel, **changes) -> Path:
    """A random checkpoint with a tokenizer."""
    return add_tokenizer(save_random(model_class, config(**changes), folder))


def randomize(module, scale: float = 0.3) -> None:
    """Random weights for a sentence-transformers module."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))


def vectors(llm: LLM, texts=TEXTS, **options) -> np.ndarray:
    """Embeddings of texts as one array."""
    outputs = llm.embed(texts, use_tqdm=False, **options)
    return np.array([output.outputs.embedding for output in outputs])
