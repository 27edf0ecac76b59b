"""Models whose tokens attend to learned vectors before they are pooled, against plain torch."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from parity import check_packed
from test_decoders import COMMON
from test_remote_decoders import relative, remodel, round_trip
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from converters.checkpoint import open_checkpoint
from converters.report import CheckpointError

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
