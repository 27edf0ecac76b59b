"""Models whose tokens attend to learned vectors before they are pooled, against plain torch."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from parity import check_packed
from test_decoders import COMMON
from test_remote_decoders import relative, remodel, round_trip
from torch.nn.functional import gelu, layer_norm, linear, relu, scaled_dot_product_attention

from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError
from jaxpool.tasks.pooling_params import PoolerConfig
from jaxpool.tasks.resolve import resolve

LATENT = dict(hidden_dim=36, latent_dim=36, num_latents_value=11, num_cross_heads=3)
LATENT |= dict(cross_dim_head=8)
BLOCKS = "latent_attention_model.cross_attend_blocks"


def latent_tensors(rng):
    """Random tensors of NV-Embed's latent attention, by their published names."""
    shapes = {
        "0.norm.weight": 36, "0.norm.bias": 36, "0.norm_context.weight": 36,
        "0.norm_context.bias": 36, "0.fn.to_q.weight": (24, 36), "0.fn.to_kv.weight": (48, 36),
        "0.fn.to_out.weight": (36, 24), "1.norm.weight": 36, "1.norm.bias": 36,
        "1.fn.net.0.weight": (288, 36), "1.fn.net.0.bias": 288, "1.fn.net.2.weight": (36, 144),
        "1.fn.net.2.bias": 36,
    }  # fmt: skip
    named = {f"{BLOCKS}.{name}": rng.normal(size=shape) for name, shape in shapes.items()}
    named["latent_attention_model.latents"] = 10 * rng.normal(size=(11, 36))
    return {name: (x / 10).astype(np.float32) for name, x in named.items()}


def latent_attention(tensors, hidden):
    """Cross attention of tokens to latents and a GEGLU, in plain torch."""
    get = lambda name: torch.from_numpy(tensors[f"{BLOCKS}.{name}"])  # noqa: E731
    norm = lambda x, n: layer_norm(x, (36,), get(f"{n}.weight"), get(f"{n}.bias"))  # noqa: E731
    x = torch.from_numpy(hidden)
    context = norm(torch.from_numpy(tensors["latent_attention_model.latents"]), "0.norm_context")
    query = norm(x, "0.norm") @ get("0.fn.to_q.weight").T
    key, value = (context @ get("0.fn.to_kv.weight").T).chunk(2, dim=-1)
    heads = (x.unflatten(1, (3, 8)).transpose(0, 1) for x in (query, key, value))
    mixed = scaled_dot_product_attention(*heads).transpose(0, 1).flatten(1)
    x = x + mixed @ get("0.fn.to_out.weight").T
    up, gate = linear(norm(x, "1.norm"), get("1.fn.net.0.weight"), get("1.fn.net.0.bias")).chunk(
        2, -1
    )
    return (x + linear(up * gelu(gate), get("1.fn.net.2.weight"), get("1.fn.net.2.bias"))).numpy()


def test_nvembed(tmp_path):
    """Published with its parts in config.json; no mask, though the text model has windows."""
    folder = tmp_path / "model"
    config = hf.MistralConfig(**COMMON, is_causal=False, sliding_window=None)
    hidden = relative(hf.MistralModel, config, folder)
    latents = latent_tensors(np.random.default_rng(0))
    prefixed = lambda tensors: {f"embedding_model.{k}": v for k, v in tensors.items()}  # noqa: E731
    remodel(folder, lambda tensors: prefixed(tensors) | latents)
    text = json.loads((folder / "config.json").read_text())
    del text["is_causal"]
    text |= {"model_type": "bidirectional_mistral", "sliding_window": 4}
    fields = {"model_type": "nvembed", "architectures": ["NVEmbedModel"], "text_config": text}
    (folder / "config.json").write_text(json.dumps(fields | {"latent_attention_config": LATENT}))
    check_packed(folder, [latent_attention(latents, x) for x in hidden], "embed")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.pool == "mean" and checkpoint.family.ended
    round_trip(folder, tmp_path / "exported")
    del fields["text_config"]
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="text_config and latent_attention_config"):
        open_checkpoint(folder)


def seed_tensors(rng):
    """Random tensors of C2LLM's pooling of 36 features to 24, by their published names."""
    shapes = {f"fc_{x}.weight": (24, 36 if x in "kv" else 24) for x in "qkvo"}
    shapes |= {f"fc_{x}.bias": (24,) for x in "qkvo"}
    named = {f"mha_pma.mab.{name}": rng.normal(size=shape) / 3 for name, shape in shapes.items()}
    for norm in ("ln0", "ln1"):
        named[f"mha_pma.mab.{norm}.weight"] = 1 + rng.normal(size=24) / 10
        named[f"mha_pma.mab.{norm}.bias"] = rng.normal(size=24) / 10
    named["mha_pma.S"] = rng.normal(size=(1, 1, 24))
    return {name: x.astype(np.float32) for name, x in named.items()}


def seed_attention(tensors, hidden):
    """What the seed becomes of the tokens of a text, head by head, in plain torch."""
    get = lambda name: torch.from_numpy(tensors[f"mha_pma.mab.{name}"])  # noqa: E731
    apply = lambda n, x: linear(x, get(f"fc_{n}.weight"), get(f"fc_{n}.bias"))  # noqa: E731
    seed, x = torch.from_numpy(tensors["mha_pma.S"])[0], torch.from_numpy(hidden)
    query, key, value = apply("q", seed), apply("k", x), apply("v", x)
    heads = []
    for part in range(3):
        mine = slice(8 * part, 8 * part + 8)
        scores = query[:, mine] @ key[:, mine].T / 24**0.5
        heads.append(torch.softmax(scores, -1) @ value[:, mine])
    y = seed + torch.cat(heads, -1)
    y = layer_norm(y, (24,), get("ln0.weight"), get("ln0.bias"))
    y = y + relu(apply("o", y))
    return layer_norm(y, (24,), get("ln1.weight"), get("ln1.bias"))[0].numpy()


def test_c2llm(tmp_path):
    """Published under the name of its code, with fewer features than the model has."""
    folder = tmp_path / "model"
    hidden = relative(hf.Qwen2Model, hf.Qwen2Config(**COMMON), folder)
    tensors = seed_tensors(np.random.default_rng(0))
    remodel(
        folder,
        lambda own: {f"plm_model.model.{name}": x for name, x in own.items()} | tensors,
        model_type="c2llm",
        architectures=["C2LLMForEmbedding"],
        embedding_method="pma",
        keep_max_layer=3,
        pma_ln=True,
        pma_norm_mode="post_normal",
        pma_num_heads=3,
    )
    check_packed(folder, [seed_attention(tensors, x) for x in hidden], "embed")
    round_trip(folder, tmp_path / "exported")
    for fields, message in (
        ({"keep_max_layer": 2}, "keep_max_layer must be the last layer"),
        ({"pma_norm_mode": "pre_gptj"}, "pma_norm_mode must be post_normal"),
    ):
        with pytest.raises(ValueError, match=message):
            open_checkpoint(folder, fields)
    settings = resolve(open_checkpoint(folder), PoolerConfig())
    assert settings.pooling_task == "embed" and settings.tasks["embed"].pooled
    assert settings.pooler_config.seq_pooling_type == "ATTENTION"
    with pytest.raises(ValueError, match="must be ATTENTION: the model has parameters"):
        resolve(open_checkpoint(folder), PoolerConfig(seq_pooling_type="MEAN"))
