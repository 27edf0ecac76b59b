"""Jina's encoders, which need `trust_remote_code` elsewhere: published names and configurations.

The reference is the nearest native class with the same tensors, or plain torch written from the
published math.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, reference, save_random, texts
from published import COMMON, FLASH, JINA_V3, Native, Plain, jina_v3, merged, publish, remake
from torch.nn.functional import embedding, gelu

from converters.checkpoint import open_checkpoint
from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.batch import Request
from jaxpool.nn.transformer import forward


def test_jina_rotary(tmp_path):
    """jina-embeddings-v3's base."""
    folder = tmp_path / "model"
    jina_v3(folder)

    def back(tensors):
        return {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}

    check(folder, Native(hf.JinaEmbeddingsV3Model, JINA_V3, back))


def test_jina_adapters(tmp_path):
    """jina-embeddings-v3 whole: each text of a packed batch on the adapter it asked for."""
    folder = tmp_path / "model"
    jina_v3(folder, adapters=True)
    check(folder, Native(hf.JinaEmbeddingsV3Model, JINA_V3, lambda tensors: merged(tensors, None)))

    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(np.float32, lambda path, array: array)
    ids = texts(97)
    requests = [Request(x, adapter=i) for x, i in zip(ids, (3, 0, 5), strict=True)]
    (plan,) = planner.plan([len(x) for x in ids], (48,), 48)
    reads = batching.TEXT._replace(types=True, adapters=True)
    batch, _ = batching.fill(plan, requests, reads)
    hidden = np.asarray(forward(params, batch, checkpoint.arch))
    for index, ours in batching.unpack(plan, hidden, requests, pooled=False):
        task = requests[index].adapter - 1 if requests[index].adapter else None
        one = Native(hf.JinaEmbeddingsV3Model, JINA_V3, lambda t, task=task: merged(t, task))
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


class JinaBert(Plain):
    """jina-embeddings-v2 in plain torch: symmetric ALiBi (arXiv 2310.19923), GEGLU, post-norm."""

    def __init__(self, heads: int, code: bool):
        self.heads, self.code = heads, code

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
