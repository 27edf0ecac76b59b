"""Encoders that need `trust_remote_code` elsewhere: published names and configurations.

The reference is the nearest native class with the same tensors, or plain torch written from the
published math.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, reference, save_random, texts
from safetensors.torch import load_file, save_file
from torch.nn.functional import embedding, gelu, layer_norm, linear

from converters.checkpoint import open_checkpoint
from jaxpool import batch as batching
from jaxpool import planner
from jaxpool.batch import Request
from jaxpool.transformer import forward

COMMON = dict(
    vocab_size=97,
    hidden_size=40,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=50,
    max_position_embeddings=64,
    num_labels=3,
)


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


def ntk(theta: float, factor: float, dim: int):
    """Sets the frequencies of Alibaba's NTK scaling: kexue.fm/archives/9706, equation 6."""
    rates = 1.0 / (theta * factor) ** (torch.arange(0, dim, 2).float() / dim)

    def patch(model):
        base = getattr(model, "gte", model)
        base.rotary_emb.inv_freq = rates / factor ** (2 / dim)

    return patch


@pytest.mark.parametrize(
    "ending, task",
    [("Model", None), ("ForSequenceClassification", "classify"), ("ForMaskedLM", "sparse")],
)
def test_new(ending, task, tmp_path):
    """Alibaba's NewModel: `new.` names, and rotary positions with fixed NTK scaling."""
    native = hf.GteConfig(**COMMON, type_vocab_size=0)
    model_class = getattr(hf, f"Gte{ending}")
    folder = save_random(
        model_class, native, tmp_path / "model", lambda name: name.replace("gte.", "new.")
    )
    publish(
        folder,
        drop=["rope_parameters"],
        model_type="new",
        architectures=[f"New{ending}"],
        auto_map={"AutoConfig": "Alibaba-NLP/new-impl--configuration.NewConfig"},
        position_embedding_type="rope",
        rope_theta=20.0,
        rope_scaling={"type": "ntk", "factor": 8.0},
        pack_qkv=True,
    )

    def back(tensors):
        return {name.replace("new.", "gte."): tensor for name, tensor in tensors.items()}

    check(folder, Native(model_class, native, back, ntk(20.0, 8.0, 10)), task)


@pytest.mark.parametrize("factor", [None, 2.0])
def test_nomic(factor, tmp_path):
    """nomic-embed-text: GPT-2's configuration names; texts may be longer than trained for."""
    rope = {"rope_type": "dynamic" if factor else "default", "rope_theta": 77.0, "factor": factor}
    lengths = COMMON | {"max_position_embeddings": 16}
    native = hf.NomicBertConfig(**lengths, rope_parameters=rope, layer_norm_eps=1e-5)
    folder = save_random(hf.NomicBertModel, native, tmp_path / "model")
    published = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 16,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": 40,
        "n_head": 4,
        "n_inner": 50,
        "n_layer": 3,
        "n_positions": 64,
        "qkv_proj_bias": False,
        "rotary_emb_base": 77.0,
        "rotary_emb_fraction": 1.0,
        "rotary_scaling_factor": factor,
        "type_vocab_size": 2,
        "vocab_size": 97,
    }
    (folder / "config.json").write_text(json.dumps(published))
    assert open_checkpoint(folder).arch.max_length == (64 if factor else 16)
    check(folder, Native(hf.NomicBertModel, native))


class NomicMoe:
    """nomic-embed-text-v2-moe in plain torch: experts in odd layers, the two best of each token."""

    def from_pretrained(self, folder):
        self.tensors = load_file(folder / "model.safetensors")
        return self

    def eval(self):
        return self

    def dense(self, name, x):
        return linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name, x):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, weight.shape, weight, bias, 1e-5)

    def attention(self, name, x):
        q, k, v = self.dense(f"{name}.Wqkv", x).chunk(3, -1)
        q, k, v = (y.view(1, len(x[0]), 4, 10).transpose(1, 2) for y in (q, k, v))
        rates = 90.0 ** (-torch.arange(0, 10, 2) / 10)
        turns = torch.polar(torch.tensor(1.0), torch.arange(len(x[0]))[:, None] * rates)

        def turn(y):
            a, b = y.chunk(2, -1)
            z = torch.complex(a, b) * turns
            return torch.cat([z.real, z.imag], -1)

        scores = turn(q) @ turn(k).transpose(-1, -2) / 10**0.5
        return self.dense(
            f"{name}.out_proj", (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        )

    def experts(self, name, x):
        best, which = self.dense(f"{name}.router.layer", x).softmax(-1).topk(2)
        w1, w2 = (self.tensors[f"{name}.experts.mlp.w{i}"].view(4, 50, 40) for i in (1, 2))
        each = torch.stack([gelu(x @ a.T) @ b for a, b in zip(w1, w2, strict=True)], -1)
        chosen = torch.take_along_dim(each, which[:, :, None, :], -1)
        return (chosen * best[:, :, None, :]).sum(-1) + self.tensors[f"{name}.experts.bias"]

    def __call__(self, input_ids):
        x = embedding(input_ids, self.tensors["embeddings.word_embeddings.weight"])
        x = self.norm("emb_ln", x + self.tensors["embeddings.token_type_embeddings.weight"][0])
        for i, layer in enumerate(f"encoder.layers.{i}" for i in range(4)):
            x = self.norm(f"{layer}.norm1", x + self.attention(f"{layer}.attn", x))
            mlp = f"{layer}.mlp"
            if i % 2:
                y = self.experts(mlp, x)
            else:
                y = self.dense(f"{mlp}.fc2", gelu(self.dense(f"{mlp}.fc1", x)))
            x = self.norm(f"{layer}.norm2", x + y)
        return SimpleNamespace(last_hidden_state=x)


def test_nomic_moe(tmp_path):
    """nomic-embed-text-v2-moe: biases everywhere, gelu, experts in every second layer."""
    shapes = {"embeddings.word_embeddings": (97, 40), "embeddings.token_type_embeddings": (1, 40)}
    norms = ["emb_ln"]
    for layer in (f"encoder.layers.{i}" for i in range(4)):
        shapes |= {f"{layer}.attn.Wqkv": (120, 40), f"{layer}.attn.out_proj": (40, 40)}
        norms += [f"{layer}.norm1", f"{layer}.norm2"]
    for layer in ("encoder.layers.0", "encoder.layers.2"):
        shapes |= {f"{layer}.mlp.fc1": (50, 40), f"{layer}.mlp.fc2": (40, 50)}
    torch.manual_seed(0)
    tensors = {f"{name}.weight": 0.1 * torch.randn(shape) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if "embeddings" not in name:
            tensors[f"{name}.bias"] = 0.1 * torch.randn(shape[0])
    for mlp in ("encoder.layers.1.mlp", "encoder.layers.3.mlp"):
        tensors[f"{mlp}.router.layer.weight"] = torch.randn(4, 40)
        tensors |= {f"{mlp}.experts.mlp.w{i}": 0.1 * torch.randn(200, 40) for i in (1, 2)}
        tensors[f"{mlp}.experts.bias"] = 0.1 * torch.randn(40)
    for name in norms:
        tensors |= {f"{name}.weight": 1 + 0.1 * torch.randn(40), f"{name}.bias": torch.randn(40)}
    published = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "gelu",
        "layer_norm_epsilon": 1e-5,
        "max_trained_positions": 64,
        "mlp_fc1_bias": True,
        "mlp_fc2_bias": True,
        "moe_every_n_layers": 2,
        "moe_top_k": 2,
        "n_embd": 40,
        "n_head": 4,
        "n_inner": 50,
        "n_layer": 4,
        "n_positions": 64,
        "num_experts": 4,
        "qkv_proj_bias": True,
        "rotary_emb_base": 90.0,
        "type_vocab_size": 1,
        "vocab_size": 97,
    }
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(published))
    check(folder, NomicMoe())


FLASH = "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig"


def test_jina_rotary(tmp_path):
    """jina-embeddings-v3's base under XLM-RoBERTa's model_type."""
    rope = {"rope_type": "default", "rope_theta": 55.0}
    native = hf.JinaEmbeddingsV3Config(**COMMON, type_vocab_size=1, rope_parameters=rope)
    folder = save_random(
        hf.JinaEmbeddingsV3Model, native, tmp_path / "model", lambda name: f"roberta.{name}"
    )
    publish(
        folder,
        drop=["rope_parameters"],
        model_type="xlm-roberta",
        architectures=["XLMRobertaModel"],
        auto_map={"AutoConfig": FLASH},
        position_embedding_type="rotary",
        rotary_emb_base=55.0,
    )

    def back(tensors):
        return {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}

    check(folder, Native(hf.JinaEmbeddingsV3Model, native, back))


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


TASKS = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]


def test_jina_adapters(tmp_path):
    """jina-embeddings-v3 whole: each text of a packed batch on the adapter it asked for."""
    rope = {"rope_type": "default", "rope_theta": 55.0}
    native = hf.JinaEmbeddingsV3Config(**COMMON, type_vocab_size=1, rope_parameters=rope)
    folder = save_random(
        hf.JinaEmbeddingsV3Model, native, tmp_path / "model", lambda name: f"roberta.{name}"
    )
    remake(folder, adapt)
    publish(
        folder,
        drop=["rope_parameters"],
        model_type="xlm-roberta",
        architectures=["XLMRobertaModel"],
        auto_map={"AutoConfig": FLASH},
        position_embedding_type="rotary",
        rotary_emb_base=55.0,
        lora_adaptations=TASKS,
        lora_rank=3,
        lora_alpha=2,
    )
    check(folder, Native(hf.JinaEmbeddingsV3Model, native, lambda tensors: merged(tensors, None)))

    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(np.float32, lambda path, array: array)
    ids = texts(97)
    requests = [Request(x, adapter=i) for x, i in zip(ids, (3, 0, 5), strict=True)]
    (plan,) = planner.plan([len(x) for x in ids], (48,), 48)
    batch, _ = batching.fill(plan, requests, types=True, adapters=True)
    hidden = np.asarray(forward(params, batch, checkpoint.arch))
    for index, ours in batching.unpack(plan, hidden, requests, pooled=False):
        task = requests[index].adapter - 1 if requests[index].adapter else None
        one = Native(hf.JinaEmbeddingsV3Model, native, lambda t, task=task: merged(t, task))
        wanted = reference(one.from_pretrained(folder), [ids[index]], False, "last_hidden_state")
        np.testing.assert_allclose(ours, wanted[0], atol=2e-5)


RERANKER = (
    ("attention.self.query", "mixer.q"),
    ("attention.self.key", "mixer.k"),
    ("attention.self.value", "mixer.v"),
    ("attention.output.dense", "mixer.out_proj"),
    ("attention.output.LayerNorm", "norm1"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("output.LayerNorm", "norm2"),
    ("embeddings.LayerNorm", "emb_ln"),
    ("encoder.layer.", "encoder.layers."),
)


def test_jina_reranker(tmp_path):
    """jina-reranker-v2: learned positions under the same fused names."""
    native = hf.XLMRobertaConfig(**COMMON, type_vocab_size=1, pad_token_id=1)
    folder = save_random(hf.XLMRobertaForSequenceClassification, native, tmp_path / "model")

    def forth(tensors):
        for ours, theirs in RERANKER:
            tensors = {name.replace(ours, theirs): t for name, t in tensors.items()}
        for name in [n for n in tensors if ".mixer.q." in n]:
            parts = [tensors.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
            tensors[name.replace(".q.", ".Wqkv.")] = torch.cat(parts)
        return tensors

    def back(tensors):
        for name in [n for n in tensors if "Wqkv" in n]:
            for part, tensor in zip("qkv", tensors.pop(name).chunk(3), strict=True):
                tensors[name.replace("Wqkv", part)] = tensor
        for ours, theirs in reversed(RERANKER):
            tensors = {name.replace(theirs, ours): t for name, t in tensors.items()}
        return tensors

    remake(folder, forth)
    publish(folder, auto_map={"AutoConfig": FLASH}, position_embedding_type="absolute")
    check(folder, Native(hf.XLMRobertaForSequenceClassification, native, back), "classify")


class JinaBert:
    """jina-embeddings-v2 in plain torch: symmetric ALiBi (arXiv 2310.19923), GEGLU, post-norm."""

    def __init__(self, heads: int, code: bool):
        self.heads, self.code = heads, code

    def from_pretrained(self, folder):
        self.tensors = load_file(folder / "model.safetensors")
        return self

    def eval(self):
        return self

    def dense(self, name, x):
        return linear(x, self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias"))

    def norm(self, name, x):
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return layer_norm(x, weight.shape, weight, bias, 1e-12)

    def attention(self, name, x):
        q, k, v = (self.dense(f"{name}.self.{part}", x) for part in ("query", "key", "value"))
        if self.code:
            q, k = (
                self.norm(f"{name}.self.layer_norm_q", q),
                self.norm(f"{name}.self.layer_norm_k", k),
            )
        q, k, v = (y.view(1, len(x[0]), self.heads, -1).transpose(1, 2) for y in (q, k, v))
        distance = torch.arange(len(x[0]))[:, None] - torch.arange(len(x[0]))
        slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])[:, None, None]
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 - slopes * distance.abs()
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        return self.norm(f"{name}.output.LayerNorm", x + self.dense(f"{name}.output.dense", mixed))

    def mlp(self, name, x):
        if self.code:
            up, gate = self.dense(f"{name}.mlp.up_gated_layer", x).chunk(2, -1)
            return self.dense(f"{name}.mlp.down_layer", up * gelu(gate))
        gate, up = self.dense(f"{name}.mlp.gated_layers", x).chunk(2, -1)
        return self.dense(f"{name}.mlp.wo", gelu(gate) * up)

    def __call__(self, input_ids, token_type_ids):
        x = embedding(input_ids, self.tensors["embeddings.word_embeddings.weight"])
        x = x + embedding(token_type_ids, self.tensors["embeddings.token_type_embeddings.weight"])
        x = self.norm("embeddings.LayerNorm", x)
        for layer in (f"encoder.layer.{i}" for i in range(3)):
            y = self.attention(f"{layer}.attention", x)
            x = self.norm(f"{layer}.layer_norm_1", x + y) if self.code else y
            y = self.mlp(layer, x)
            name = "layer_norm_2" if self.code else "mlp.layernorm"
            x = self.norm(f"{layer}.{name}", x + y)
        return SimpleNamespace(last_hidden_state=x)


@pytest.mark.parametrize("code", [False, True], ids=["text", "code"])
def test_jina_bert(code, tmp_path):
    """jina-embeddings-v2, and its code and bilingual variant with normalized queries and keys."""
    native = hf.BertConfig(**COMMON, type_vocab_size=2)
    folder = save_random(hf.BertModel, native, tmp_path / "model")

    def norm():
        return {"weight": 1 + 0.1 * torch.randn(40), "bias": 0.1 * torch.randn(40)}

    def change(tensors):
        tensors.pop("embeddings.position_embeddings.weight")
        for i in range(3):
            layer, mlp = f"encoder.layer.{i}", f"encoder.layer.{i}.mlp"
            for part in ("weight", "bias"):
                tensors.pop(f"{layer}.intermediate.dense.{part}")
                down = tensors.pop(f"{layer}.output.dense.{part}")
                tensors[f"{mlp}.{'down_layer' if code else 'wo'}.{part}"] = down
                last = tensors.pop(f"{layer}.output.LayerNorm.{part}")
                last_name = f"{layer}.layer_norm_2" if code else f"{mlp}.layernorm"
                tensors[f"{last_name}.{part}"] = last
            up = f"{mlp}.{'up_gated_layer' if code else 'gated_layers'}.weight"
            tensors[up] = 0.1 * torch.randn(100, 40)
            names = ("attention.self.layer_norm_q", "attention.self.layer_norm_k", "layer_norm_1")
            for name in names if code else ():
                tensors |= {f"{layer}.{name}.{part}": t for part, t in norm().items()}
        return tensors

    remake(folder, change)
    repository = "jinaai/jina-bert-v2-qk-post-norm" if code else "jinaai/jina-bert-implementation"
    publish(
        folder,
        architectures=["JinaBertModel"],
        auto_map={"AutoConfig": f"{repository}--configuration_bert.JinaBertConfig"},
        position_embedding_type="alibi",
        feed_forward_type="geglu",
    )
    check(folder, JinaBert(4, code))
