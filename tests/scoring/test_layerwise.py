"""BGE's reranker v2.5: scores by a layer of one's choice, of documents shortened before it."""

import copy
import json

import jax
import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from scoring.conftest import DOCUMENTS, QUERIES

import jaxpool
from converters.checkpoint import open_checkpoint
from jaxpool import PoolingParams
from jaxpool.engine.batch import Batch
from jaxpool.nn.arch import Arch
from jaxpool.nn.between import Compression
from jaxpool.nn.compression import compressed, shorter
from jaxpool.nn.segments import take

PROMPT = "Predict whether passage B contains an answer to query A."
SHORTENED = {"cutoff_layers": [3], "compress_layers": [2, 1, 3], "compress_ratio": 2}
SIZES = dict(num_hidden_layers=4, query_pre_attn_scalar=9, sliding_window=7)
PUBLISHED = dict(
    model_type="cost_wise_gemma",
    architectures=["CostWiseGemmaForCausalLM"],
    **dict(start_layer=2, layer_sep=1, layer_wise=True),
)
SCORES = dict(attn_logit_softcapping=1.5, final_logit_softcapping=0.5)


@pytest.fixture(scope="module")
def folder(decoder):
    """A folder as published: Gemma 2's layers, and a score for each layer from the second on."""
    folder = decoder(hf.Gemma2Model, "lightweight", **SIZES, **SCORES)
    noise = torch.randn(3, 1, 64, generator=torch.Generator().manual_seed(1))
    heads = {f"lm_head.{i}.linear_head.weight": noise[i] for i in range(3)}
    base = load_file(folder / "model.safetensors")
    save_file({f"model.{n}": x for n, x in base.items()} | heads, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | PUBLISHED
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def layers(model, x, first, last):
    """The output of some layers of a model on `[1, T, D]`, by itself."""
    config = copy.deepcopy(model.config)
    config.layer_types = config.layer_types[first:last]
    config.num_hidden_layers = last - first
    part = hf.Gemma2Model(config).eval()
    part.layers, part.norm = model.layers[first:last], torch.nn.Identity()
    return part(inputs_embeds=x, use_cache=False).last_hidden_state


def score(model, head, pair, tokenizer, asked):
    """The authors' computation of a pair: its pieces are tokenized apart, and averaged in turn."""
    query, document, line, prompt = (
        tokenizer(text, add_special_tokens=False).input_ids
        for text in (f"A: {pair[0]}", f"B: {pair[1]}", "\n", PROMPT)
    )
    start, count = len(query) + len(line), len(document)
    x = model.embed_tokens(torch.tensor([[*query, *line, *document, *line, *prompt]]))
    end, ratio = asked["cutoff_layers"][0], asked["compress_ratio"]
    for layer in range(end):
        if layer in asked["compress_layers"]:
            parts = x[:, start : start + count].split(ratio, dim=1)
            means = [part.mean(1, keepdim=True) for part in parts]
            x = torch.cat([x[:, :start], *means, x[:, start + count :]], dim=1)
            count = len(parts)
        x = layers(model, x, layer, layer + 1)
    logit = model.norm(x)[0, -1] @ head
    return float(0.5 * torch.tanh(logit / 0.5))


@pytest.mark.parametrize("asked", [SHORTENED, pytest.param({}, marks=pytest.mark.slow)])
def test_scores(folder, chat_tokenizer, asked):
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "gemma2"}
    tensors = load_file(folder / "model.safetensors")
    (head,) = tensors["lm_head.0.linear_head.weight"]
    model = hf.Gemma2Model(hf.Gemma2Config(**config))
    base = {n.removeprefix("model."): x for n, x in tensors.items() if n.startswith("model.")}
    model.load_state_dict(base)
    llm = jaxpool.LLM(str(folder), hf_overrides=asked)
    raw = PoolingParams(use_activation=False)
    got = [o.outputs.score for o in llm.score(QUERIES, DOCUMENTS, pooling_params=raw)]
    plain = {"cutoff_layers": [4], "compress_layers": [], "compress_ratio": 1}
    with torch.no_grad():
        pairs = zip(QUERIES, DOCUMENTS, strict=True)
        wanted = [score(model.eval(), head, p, chat_tokenizer, asked or plain) for p in pairs]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cutoff_layers": [1]}, r"cutoff_layers must be one layer in 2..4, found \[1\]"),
        ({"compress_ratio": 3}, "compress_ratio must be one of .1, 2, 4, 8., found 3"),
        ({"compress_ratio": 2, "compress_layers": [4]}, r"must be layers in 1..3, found \[4\]"),
        ({"layer_wise": False}, "layer_wise must be true"),
    ],
)
def test_what_cannot_be(folder, asked, message):
    with pytest.raises(ValueError, match=message):
        open_checkpoint(folder, overrides=asked)


@pytest.mark.parametrize("documents", [3, 13])  # what is left fits a shorter row, or does not
def test_rows_that_got_short(documents):
    """Two texts in a row of 32: the second layer sees the means, and each token has its group's."""
    assert shorter(32, 2) == 24
    sizes = (6, documents, 2), (4, 2, 1)  # before, of and behind each document
    segments = np.zeros((1, 32), np.int32)
    positions, types = np.zeros_like(segments), np.zeros_like(segments)
    start, wanted = 0, np.zeros((1, 32, 1), np.float32)
    x = np.random.default_rng(0).normal(size=(1, 32, 1)).astype(np.float32)
    for number, (before, document, behind) in enumerate(sizes, 1):
        count = before + document + behind
        segments[0, start : start + count] = number
        positions[0, start : start + count] = np.arange(count)
        types[0, start + before : start + before + document] = 1
        groups = [*range(before), *(before + np.arange(document) // 2)]
        groups += [groups[-1] + 1 + i for i in range(behind)]
        for i, group in enumerate(groups):
            mine = [start + j for j, other in enumerate(groups) if other == group]
            wanted[0, start + i] = x[0, mine].mean() + 100 * group
        start += count
    arch = Arch(9, 2, 4, 1, 1, 4, 4, compression=Compression((1,), 2))
    batch = Batch(segments, segments, positions, types)

    def run(x, batch, kept, bounds):
        later = bounds == (1, 2)
        return take(x + 100.0 * later * batch.positions[..., None].astype(np.float32), kept)

    got = jax.jit(lambda x, batch, kept: compressed(x, batch, arch, kept, run))
    jnp_batch = jax.tree.map(jax.numpy.asarray, batch)
    np.testing.assert_allclose(got(x, jnp_batch, None)[:, :start], wanted[:, :start], rtol=1e-5)
    kept = np.array([[3, start - 1]])
    np.testing.assert_allclose(got(x, jnp_batch, kept), wanted[:, kept[0]], rtol=1e-5)
