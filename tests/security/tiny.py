"""A tiny checkpoint made without torch, and what hostile ones are made of it with."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", *"abcdefghijklm"]
DIM, MLP, LAYERS, POSITIONS = 8, 12, 2, 32
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": DIM,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": MLP,
    "max_position_embeddings": POSITIONS,
}


def tensors() -> dict[str, np.ndarray]:
    """The tensors of a BERT of two layers, std 0.1."""
    random = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (len(WORDS), DIM),
        "embeddings.position_embeddings.weight": (POSITIONS, DIM),
        "embeddings.token_type_embeddings.weight": (2, DIM),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        linear = {f"attention.self.{part}": (DIM, DIM) for part in ("query", "key", "value")}
        linear |= {"attention.output.dense": (DIM, DIM), "intermediate.dense": (MLP, DIM)}
        linear |= {"output.dense": (DIM, MLP)}
        shapes |= {f"{name}.{part}.weight": shape for part, shape in linear.items()}
        shapes |= {f"{name}.{part}.bias": shape[:1] for part, shape in linear.items()}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    shapes |= {f"{norm}.{part}": (DIM,) for norm in norms for part in ("weight", "bias")}
    return {name: random.normal(0, 0.1, shape).astype("f4") for name, shape in shapes.items()}


def tokenizer() -> Tokenizer:
    """A word of the list a token, what is not in it [UNK]."""
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made


def save(folder: Path, **config) -> Path:
    """The checkpoint."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", CONFIG | config)
    save_file(tensors(), folder / "model.safetensors", {"format": "pt"})
    tokenizer().save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"pad_token": "[PAD]", "model_max_length": 32})
    return folder


def write_json(path: Path, content) -> None:
    """JSON, the numbers that JSON does not have included."""
    path.write_text(json.dumps(content))


def edit_json(path: Path, change: Callable[[dict], object] | None = None, **fields) -> None:
    """Change the JSON object in a file."""
    content = json.loads(path.read_text()) | fields
    if change:
        change(content)
    write_json(path, content)


class Touch:
    """Unpickled by pickle itself, it leaves a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def touching(file: Path) -> bytes:
    """A pickle that leaves a file where it is run."""
    return pickle.dumps(Touch(file), 2)


def evil_module(file: Path) -> str:
    """Python that leaves a file where it is imported, with a class of every kind in it."""
    names = ("T", "TFast", "Config", "Model", "Processor")
    classes = "".join(f"class {name}:\n    model_type = 'evil'\n" for name in names)
    return f"open({str(file)!r}, 'w').close()\n{classes}"
