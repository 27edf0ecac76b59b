"""Checkpoints as remote code publishes them, and the references that they are held against."""

import json

import torch
import transformers as hf
from parity import SIZES, save_random
from safetensors.torch import load_file, save_file
from torch.nn.functional import layer_norm, linear

COMMON = SIZES | {"hidden_size": 40}
FLASH = "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig"
JINA_V3 = hf.JinaEmbeddingsV3Config(
    **COMMON, type_vocab_size=1, rope_parameters={"rope_type": "default", "rope_theta": 55.0}
)
TASKS = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]


def publish(folder, drop=(), **facts):
    """Rewrite config.json as a remote-code repository has it."""
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in config.items() if name not in drop}
    (folder / "config.json").write_text(json.dumps(config | facts))


def remake(folder, change):
    """Rewrite the tensors of a folder: `change` of the dict of them."""
    tensors = change(load_file(folder / "model.safetensors"))
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class Native:
    """Loads a published folder into a native class: its own config, and tensors renamed back."""

    def __init__(self, model_class, config, back=lambda tensors: tensors, patch=lambda model: None):
        self.model_class, self.config, self.back, self.patch = model_class, config, back, patch

    def from_pretrained(self, folder):
        tensors = self.back(load_file(folder / "model.safetensors"))
        model = self.model_class.from_pretrained(None, config=self.config, state_dict=tensors)
        self.patch(model)
        return model


class Plain:
    """A model in plain torch, written from the published math; its class has the forward."""

    eps = 1e-12

    def from_pretrained(self, folder):
        self.tensors = load_file(folder / "model.safetensors")
        return self

    def eval(self):
        return self

    def dense(self, name, x):
        return linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name, x):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, weight.shape, weight, bias, self.eps)


def adapt(tensors):
    """Every kernel and table as torch's parametrization keeps it, with five adapters of rank 3."""
    adapted = {}
    for name, tensor in tensors.items():
        if not name.endswith("weight") or "norm" in name or "emb_ln" in name:
            adapted[name] = tensor
            continue
        stem = name.removesuffix("weight") + "parametrizations.weight"
        (rows, columns), table = tensor.shape, "embeddings" in name
        a, b = ((rows, 3), (3, columns)) if table else ((3, columns), (rows, 3))
        adapted[f"{stem}.original"] = tensor
        adapted[f"{stem}.0.lora_A"] = 0.1 * torch.randn(5, *a)
        adapted[f"{stem}.0.lora_B"] = 0.1 * torch.randn(5, *b)
    return adapted


def merged(tensors, task):
    """The tensors with one adapter added, scaled by alpha / rank; None adds none."""
    plain = {name: tensor for name, tensor in tensors.items() if "parametrizations" not in name}
    for name in (n for n in tensors if n.endswith(".original")):
        stem = name.removesuffix(".original")
        a, b = (tensors[f"{stem}.0.lora_{x}"] for x in "AB")
        first, second = (a, b) if "embeddings" in name else (b, a)
        delta = 0 if task is None else first[task] @ second[task] * 2.0 / 3
        plain[stem.replace("parametrizations.", "")] = tensors[name] + delta
    return {name.removeprefix("roberta."): tensor for name, tensor in plain.items()}


def jina_v3(folder, adapters=False):
    """Save a jina-embeddings-v3, with adapters or its base alone, under XLM-RoBERTa's name."""
    save_random(hf.JinaEmbeddingsV3Model, JINA_V3, folder, lambda name: f"roberta.{name}")
    if adapters:
        remake(folder, adapt)
    publish(
        folder,
        drop=["rope_parameters"],
        model_type="xlm-roberta",
        architectures=["XLMRobertaModel"],
        auto_map={"AutoConfig": FLASH},
        position_embedding_type="rotary",
        rotary_emb_base=55.0,
        **(dict(lora_adaptations=TASKS, lora_rank=3, lora_alpha=2) if adapters else {}),
    )
