"""Quantized checkpoints: read as the numbers that their scales make, or refused by name."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from parity import save_random
from safetensors.torch import load_file, save_file

from converters.checkpoint import open_checkpoint
from converters.files.orbax import save as save_orbax
from converters.report import CheckpointError

CONFIG = hf.LlamaConfig(
    vocab_size=50,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=1,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
)
QUANTIZED = ("proj.weight",)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save_random(hf.LlamaModel, CONFIG, tmp_path_factory.mktemp("good") / "model")


def quantized(good, folder, change, **config):
    """A copy with every product's weight as `change` gives it: tensors by what follows its name."""
    shutil.copytree(good, folder)
    tensors = load_file(folder / "model.safetensors")
    for name in [n for n in tensors if n.endswith(QUANTIZED)]:
        tensors |= {name + end: tensor for end, tensor in change(tensors.pop(name)).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    file = folder / "config.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"quantization_config": config} if config else facts))
    return folder


def blocks(weight, size=32, name="_scale_inv"):
    """FP8 with a scale a block, as DeepSeek publishes it."""
    rows, columns = (-(-n // size) for n in weight.shape)
    scale = torch.stack(
        [
            torch.stack(
                [
                    weight[i * size : (i + 1) * size, j * size : (j + 1) * size].abs().max() / 448
                    for j in range(columns)
                ]
            )
            for i in range(rows)
        ]
    )
    spread = scale.repeat_interleave(size, 0)[: len(weight)]
    spread = spread.repeat_interleave(size, 1)[:, : weight.shape[1]]
    return {"": (weight / spread).to(torch.float8_e4m3fn), name: scale}


def rows(weight, kind=torch.int8, most=127):
    """compressed-tensors: a scale a row."""
    scale = weight.abs().amax(1, keepdim=True) / most
    whole = weight / scale
    return {"": (whole.round() if kind == torch.int8 else whole).to(kind), "_scale": scale}


def groups(weight, size=16):
    """compressed-tensors: a scale a group of a row."""
    parts = weight.reshape(len(weight), -1, size)
    scale = parts.abs().amax(2) / 127
    whole = (parts / scale[..., None]).round().to(torch.int8).reshape(weight.shape)
    return {"": whole, "_scale": scale}


def whole(weight, kind=torch.float8_e4m3fn, most=448):
    """One scale for all of a tensor, as a number without axes."""
    scale = weight.abs().max() / most
    scaled = weight / scale
    return {"": (scaled.round() if kind == torch.int8 else scaled).to(kind), "_scale": scale}


FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}
COMPRESSED = {"quant_method": "compressed-tensors"}
KINDS = {
    "fp8 blocks": (blocks, FP8, 0.07),
    "int8 rows": (rows, COMPRESSED, 0.02),
    "fp8 rows": (lambda w: rows(w, torch.float8_e4m3fn, 448), COMPRESSED, 0.07),
    "int8 groups": (groups, COMPRESSED, 0.02),
    "fp8 tensor": (whole, COMPRESSED, 0.07),
    "int8 tensor": (lambda w: whole(w, torch.int8, 127), COMPRESSED, 0.02),
}


def read(folder):
    return open_checkpoint(folder).read(np.float32, lambda path, array: array)


def test_fp8_blocks_are_the_numbers_of_transformers(good, tmp_path):
    """transformers' own dequantization, product by product, to the last bit of bfloat16."""
    config = hf.FineGrainedFP8Config(weight_block_size=(16, 16), dequantize=True)
    facts = FP8 | {"weight_block_size": [16, 16]}  # transformers takes whole blocks alone
    folder = quantized(good, tmp_path / "model", lambda w: blocks(w, 16), **facts)
    model = hf.LlamaModel.from_pretrained(
        folder, quantization_config=config, dtype=torch.bfloat16, device_map="cpu"
    )
    ours = read(folder)["layers"]["attention"]["out"]["kernel"][0]
    theirs = model.layers[0].self_attn.o_proj.weight.detach().float().numpy()
    np.testing.assert_array_equal(ours.reshape(theirs.T.shape), theirs.T)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_numbers_times_scales(kind, good, tmp_path):
    change, config, tolerance = KINDS[kind]
    folder = quantized(good, tmp_path / "model", change, **config)
    wanted, got = read(good), read(folder)
    for leaf in ("query", "out"):
        a, b = (tree["layers"]["attention"][leaf]["kernel"] for tree in (wanted, got))
        assert 0 < np.abs(a - b).max() < tolerance * np.abs(a).max()
    np.testing.assert_array_equal(
        wanted["embed"]["token"]["embedding"], got["embed"]["token"]["embedding"]
    )
    exported = tmp_path / "exported"
    exported.mkdir()
    checkpoint = open_checkpoint(folder)
    checkpoint.write(checkpoint.read(None, lambda path, array: array), exported)
    facts = json.loads((exported / "config.json").read_text())
    assert facts["quantization_config"] is None
    save_orbax(checkpoint, tmp_path / "orbax")
    assert open_checkpoint(tmp_path / "orbax").leaves == checkpoint.leaves
    again = read(exported)["layers"]["attention"]["query"]["kernel"]
    np.testing.assert_array_equal(again, got["layers"]["attention"]["query"]["kernel"])


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda w: {"": rows(w)[""]}, {}, "dtype I8 is quantized .config.json: no quant"),
        (lambda w: {"": w.to(torch.float8_e4m3fn)}, FP8, r"F8_E4M3 is quantized .*: fp8\)"),
        (
            lambda w: {"": torch.zeros(w.numel() // 2, 1, dtype=torch.uint8)},
            {"quant_method": "bitsandbytes"},
            r"dtype U8 is quantized .*: bitsandbytes\)",
        ),
        (
            lambda w: rows(w) | {"_zero_point": torch.ones(len(w), 1, dtype=torch.int8)},
            COMPRESSED,
            r"is quantized .*: compressed-tensors\)",
        ),
    ],
)
def test_integers_without_their_scales_are_no_weights(change, config, message, good, tmp_path):
    folder = quantized(good, tmp_path / "model", change, **config)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_packed_weights_are_refused_by_name(method, good, tmp_path):
    folder = quantized(good, tmp_path / "model", rows, quant_method=method)
    tensors = load_file(folder / "model.safetensors")
    packed = {n.replace("proj.weight", "proj.qweight"): t for n, t in tensors.items()}
    packed = {
        n: t.to(torch.int32) if n.endswith("qweight") else t
        for n, t in packed.items()
        if not n.endswith("_scale")
    }
    save_file(packed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"I32 is quantized .*: {method}\)"):
        open_checkpoint(folder)
