"""Generated sentence-transformers folders: modules, pooling, prompts, lengths and weight files."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

from tests.differential import tokenizer_folders
from tests.differential.references import link
from tests.differential.weight_forms import weights, write
from tests.parity import save_random

DIM = 32
COMMON = dict(hidden_size=DIM, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
ENCODER = COMMON | dict(vocab_size=900, max_position_embeddings=40)
DECODER = COMMON | dict(vocab_size=600, max_position_embeddings=40, pad_token_id=1)
# By name: the kind of tokenizer (see `tokenizer_folders`), the configuration of the model.
FAMILIES: dict[str, tuple[str, Any]] = {
    "Bert": ("pieces", hf.BertConfig(**ENCODER)),
    "DistilBert": (
        "pieces",
        hf.DistilBertConfig(
            vocab_size=900,
            dim=DIM,
            n_layers=2,
            n_heads=4,
            hidden_dim=48,
            max_position_embeddings=40,
        ),
    ),
    "MPNet": ("pieces", hf.MPNetConfig(**ENCODER)),
    "XLMRoberta": ("unigram", hf.XLMRobertaConfig(**ENCODER, type_vocab_size=1)),
    "ModernBert": ("bytes", hf.ModernBertConfig(**ENCODER, pad_token_id=1, local_attention=8)),
    "Qwen3": ("bytes", hf.Qwen3Config(**DECODER, num_key_value_heads=2, head_dim=8)),
    "Mistral": ("spaces", hf.MistralConfig(**DECODER, num_key_value_heads=2, head_dim=8)),
}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
LEGACY = {mode: f"pooling_mode_{mode}_tokens" for mode in MODES}
LEGACY |= {"cls": "pooling_mode_cls_token", "lasttoken": "pooling_mode_lasttoken"}
LEGACY |= {"mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens"}
PLACES = {  # where sentence-transformers had its classes, and has them
    "Transformer": "sentence_transformers.base.modules.transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling",
    "Dense": "sentence_transformers.base.modules.dense",
    "Normalize": "sentence_transformers.base.modules.normalize",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout",
}
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "Sigmoid", "SiLU")
PROMPTS = {"query": "query: ", "document": "", "classification": "Classify this: "}
LENGTH_FILES = ("bert", "bert", "bert", "roberta", "xlm-roberta", "xlm_roberta", "distilbert")
TEXTS = [
    "Hello world",
    "A much longer sentence about cats and dogs, and the mice they chase all over the house. " * 2,
    "",
    "Return the shape of the array; raise ValueError if x is None.",
]


def base(family: str, root: Path) -> Path:
    """The folder of a bare model with its tokenizer, written once."""
    folder = root / family
    if not folder.is_dir():
        kind, config = FAMILIES[family]
        save_random(getattr(hf, f"{family}Model"), config, folder)
        (folder / "tokenizer.json").write_text(tokenizer_folders.trained(kind))
        write(folder / "tokenizer_config.json", tokenizer_config(kind))
    return folder


def tokenizer_config(kind: str) -> dict:
    """The special tokens of a kind of tokenizer."""
    names = tokenizer_folders.BRACKETS if kind == "pieces" else tokenizer_folders.ROLES
    named = {f"{role}_token": token for role, token in names.items()}
    types = ["token_type_ids"] if kind == "pieces" else []
    return named | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "model_max_length": 512,
    }


def generate(folder: Path, root: Path, seed: int, families=tuple(FAMILIES)) -> dict:
    """Write the folder of a seed; what is odd in it."""
    rng = random.Random(seed)
    family = rng.choice(families)
    link(base(family, root), folder)
    said = {"family": family}
    prefix = rng.choice(["", "", "0_Transformer"])
    if prefix:
        inner = folder / prefix
        inner.mkdir()
        for file in [file for file in folder.iterdir() if file.is_file()]:
            file.rename(inner / file.name)
    said["modules"] = _modules(rng, folder, prefix)
    said["lengths"] = _lengths(rng, folder / prefix)
    said["settings"] = _settings(rng, folder)
    said["weights"] = weights(rng, folder / prefix, family)
    return said


def _modules(rng: random.Random, folder: Path, prefix: str) -> list:
    kinds, said, width, pooled = ["Transformer"], [], DIM, False
    kinds += rng.choice([[], [], [], ["Dense"]])  # of token vectors
    kinds += [
        "Pooling",
        *rng.choice([[], ["Dense"], ["Dense", "Dense"], ["LayerNorm"], ["Dropout"]]),
    ]
    kinds += rng.choice([[], ["Normalize"], ["Normalize"], ["Normalize", "Dense"]])
    modules, old = [], rng.random() < 0.6
    for number, kind in enumerate(kinds):
        path = f"{number}_{kind}" if number else prefix
        place = "sentence_transformers.models" if old else PLACES[kind]
        entry = {"idx": number, "name": str(number), "path": path, "type": f"{place}.{kind}"}
        modules.append(entry)
        if kind == "Pooling":
            config, count = _pooling(rng, width)
            write(folder / path / "config.json", config)
            said.append(config)
            width, pooled = width * count, True
        elif kind in ("Dense", "LayerNorm"):
            config, width = _layer(rng, kind, folder / path, width, pooled)
            said.append(config)
        else:
            (folder / path).mkdir(exist_ok=True)
            said.append(kind)
    write(folder / "modules.json", modules)
    return said


def _pooling(rng: random.Random, width: int) -> tuple[dict, int]:
    """The config.json of a Pooling, and how many vectors it joins."""
    name = rng.choice(
        ["word_embedding_dimension", "word_embedding_dimension", "embedding_dimension"]
    )
    config: dict = {name: width}
    chosen = rng.sample(MODES, rng.choice([1, 1, 1, 1, 2, 3]))
    form = rng.choice(["flags", "flags", "few flags", "name", "list", "none"])
    if form == "flags":
        config |= {flag: mode in chosen for mode, flag in LEGACY.items()}
    elif form == "few flags":
        config |= {LEGACY[mode]: True for mode in chosen}
    elif form == "name":
        config["pooling_mode"], chosen = chosen[0], chosen[:1]
    elif form == "list":
        config["pooling_mode"] = chosen
    else:
        chosen = ["mean"]
    include = rng.choice(["absent", True, True, False])
    return config | ({} if include == "absent" else {"include_prompt": include}), len(chosen)


def _layer(rng: random.Random, kind: str, folder: Path, width: int, pooled: bool):
    """The config.json and weights of a Dense or LayerNorm, and its width."""
    folder.mkdir()
    torch.manual_seed(rng.randrange(1000))
    if kind == "LayerNorm":
        write(folder / "config.json", {"dimension": width})
        _save(
            rng,
            folder,
            {"norm.weight": 1 + torch.randn(width) / 4, "norm.bias": torch.randn(width)},
        )
        return {"dimension": width}, width
    size = width if not pooled else rng.choice([16, 24, width])
    config: dict = {"in_features": width, "out_features": size}
    bias = rng.choice(["absent", True, True, False])
    if bias != "absent":
        config["bias"] = bias
    act = rng.choice([None, *ACTIVATIONS])
    if act:
        file = "linear" if act == "Identity" else "activation"
        config["activation_function"] = f"torch.nn.modules.{file}.{act}"
    if not pooled:
        config["module_input_name"] = "token_embeddings"
    tensors = {"linear.weight": torch.randn(size, width) / width**0.5}
    if bias:
        tensors["linear.bias"] = torch.randn(size)
    write(folder / "config.json", config)
    _save(rng, folder, tensors)
    return config, size


def _save(rng: random.Random, folder: Path, tensors: dict) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if rng.random() < 0.5:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / "pytorch_model.bin")


def _lengths(rng: random.Random, folder: Path) -> dict:
    """sentence_bert_config.json and what else says how long a text may be."""
    said: dict = {}
    if rng.random() < 0.7:
        config: dict = {}
        if rng.random() < 0.8:
            config["max_seq_length"] = rng.choice([6, 12, 32, 38, None])
        if rng.random() < 0.7:
            config["do_lower_case"] = rng.choice([True, False, False, None])
        name = f"sentence_{rng.choice(LENGTH_FILES)}_config.json"
        write(folder / name, config)
        said[name] = config
    if rng.random() < 0.4:
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        changed = {"model_max_length": rng.choice([8, 20, 10**30]), "truncation_side": "right"}
        write(folder / "tokenizer_config.json", tokenizer | changed)
        said |= changed
    return said


def _settings(rng: random.Random, folder: Path) -> dict | None:
    """config_sentence_transformers.json."""
    if rng.random() < 0.15:
        return None
    config: dict = {}
    if rng.random() < 0.7:
        config["prompts"] = rng.choice([{}, None, PROMPTS, PROMPTS, {"query": "q: "}])
    if rng.random() < 0.6:
        known = [*(config.get("prompts") or {})]
        config["default_prompt_name"] = rng.choice([None, *known])
    if rng.random() < 0.6:
        config["similarity_fn_name"] = rng.choice(["cosine", "dot", "euclidean", "manhattan", None])
    if rng.random() < 0.2:
        config["truncate_dim"] = rng.choice([8, 12, None])
    if rng.random() < 0.3:
        config["model_type"] = "SentenceTransformer"
    if rng.random() < 0.3:
        config["__version__"] = {"sentence_transformers": rng.choice(["2.2.2", "5.1.0"])}
    write(folder / "config_sentence_transformers.json", config)
    return config
