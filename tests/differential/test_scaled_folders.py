"""Hidden states with generated scaled weights equal to those with the numbers they stand for."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from converters.checkpoint import open_checkpoint
from tests.converters.test_scaled import COMPRESSED, FP8, blocks, groups, rows, whole
from tests.differential import config_cases
from tests.differential.config_cases import Case
from tests.differential.references import attempt, difference, hidden_states, link
from tests.differential.test_config_fields import theirs
from tests.differential.weight_forms import write
from tests.parity import texts

FAST, MANY = 3, 200
FEW = ("Bert",)  # whose operations test_config_fields has compiled
FAMILIES = (*FEW, "XLMRoberta", "DistilBert", "Llama", "Qwen3", "Mistral")
BLOCK, GROUP = 32, 2
E4M3 = (torch.float8_e4m3fn, 448)
FORMS = {
    "fp8 blocks": (lambda w: blocks(w, BLOCK), FP8),
    "int8 rows": (rows, COMPRESSED),
    "fp8 rows": (lambda w: rows(w, *E4M3), COMPRESSED),
    "int8 groups": (lambda w: groups(w, GROUP), COMPRESSED),
    "int8 tensor": (lambda w: whole(w, torch.int8, 127), COMPRESSED),
    "fp8 tensor": (lambda w: whole(w, *E4M3), COMPRESSED),
}


def numbers(quantized: dict[str, torch.Tensor]) -> torch.Tensor:
    """What numbers and their scales stand for, in the bfloat16 that most such models compute in."""
    (_, weight), (name, scale) = quantized.items()
    for axis in range(scale.ndim):
        size = weight.shape[axis]
        each = BLOCK if name == "_scale_inv" else size // scale.shape[axis]
        scale = scale.repeat_interleave(each, axis).narrow(axis, 0, size)
    return (weight.float() * scale.float()).bfloat16().float()


def generate(folder: Path, plain: Path, rng: random.Random, form: str) -> int:
    """Scale some products' weights of `folder`; `plain` gets the numbers. How many they are."""
    change, said = FORMS[form]
    scaled = load_file(folder / "model.safetensors")
    unscaled = dict(scaled)
    products = [n for n, w in scaled.items() if w.ndim == 2 and "embed" not in n]
    chosen = rng.sample(products, rng.randint(1, len(products)))
    for name in chosen:
        parts = change(scaled.pop(name))
        unscaled[name] = numbers(parts)
        scaled |= {name + end: tensor.contiguous() for end, tensor in parts.items()}
    for place, tensors in ((folder, scaled), (plain, unscaled)):
        (place / "model.safetensors").unlink()
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"quantization_config": said})
    return len(chosen)


def compare(root: Path, seed: int, families=FAMILIES) -> str | None:
    """What differs in the case of a seed."""
    rng = random.Random(seed)
    family, form = rng.choice(families), rng.choice(list(FORMS))
    folder, plain = root / "scaled", root / "plain"
    for place in (folder, plain):
        link(config_cases.base(family, root), place)
    count = generate(folder, plain, rng, form)
    ids = texts(97)
    ours = attempt(lambda: hidden_states(open_checkpoint(folder), ids))
    found = difference(attempt(theirs, Case(family, ()), plain, ids), ours)
    for place in (folder, plain):
        shutil.rmtree(place)
    return found and f"{seed}: {found}\n{family}: {count} weights as {form}"


def test_some_scaled_weights(tmp_path):
    found = [compare(tmp_path, seed, FEW) for seed in range(FAST)]
    assert not [one for one in found if one]


def test_a_fault_is_found(tmp_path, monkeypatch):
    """Numbers that are a percent too large."""
    real = numbers
    monkeypatch.setitem(globals(), "numbers", lambda parts: 1.01 * real(parts))
    assert compare(tmp_path, 0, FEW)


@pytest.mark.slow
def test_many_scaled_weights(tmp_path):
    found = [compare(tmp_path, seed) for seed in range(MANY)]
    assert not [one for one in found if one]
