"""Tokens/s of decoders that mix attention with something else, beside transformers' torch models.

    python benchmarks/mixers.py [NAME...] [--layers N] [--tiny] [--output FILE.json]

Shapes of LFM2-350M and Qwen3.5-0.8B with random weights in float32, of which `--layers` are made.
Both sides read one checkpoint and the same token ids, and their last tokens are compared; then they
take turns. `--tiny` is a smoke test whose numbers mean nothing.
"""

import json
import os
import statistics
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import jax.numpy as jnp
import measure
import numpy as np
import typer

from converters.checkpoint import open_checkpoint
from jaxpool.engine.batch import pad
from jaxpool.nn.transformer import forward

ROUNDS = 3
SHAPES = ((8, 64), (2, 512))  # texts and their tokens
WORDS = 8192  # of the vocabulary, which costs a forward nothing
CONFIGS: dict[str, tuple[str, dict]] = {
    "LFM2-350M": (
        "Lfm2",
        dict(
            hidden_size=1024,
            intermediate_size=6656,
            num_attention_heads=16,
            num_key_value_heads=8,
            layer_types=["conv", "conv", "full_attention"],
        ),
    ),
    "Qwen3.5-0.8B": (
        "Qwen3_5Text",
        dict(
            hidden_size=1024,
            intermediate_size=3584,
            num_attention_heads=8,
            num_key_value_heads=2,
            linear_num_value_heads=16,
            layer_types=["linear_attention"] * 3 + ["full_attention"],
        ),
    ),
}
TINY = {"hidden_size": 64, "intermediate_size": 96, "linear_num_value_heads": 16}


def make(name: str, layers: int, tiny: bool, folder: Path):
    """A random checkpoint of a shape, and transformers' model of it."""
    import torch
    import transformers

    family, sizes = CONFIGS[name]
    kinds = sizes["layer_types"]
    sizes = sizes | ({key: TINY[key] for key in sizes.keys() & TINY.keys()} if tiny else {})
    sizes |= {"num_hidden_layers": layers, "vocab_size": WORDS}
    sizes["layer_types"] = [kinds[i % len(kinds)] for i in range(layers)]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**sizes)
    model = getattr(transformers, f"{family}Model")(config).eval()
    model.save_pretrained(folder)
    return model


def ours(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The last token's hidden states of `[texts, tokens]` ids, by jaxpool."""
    checkpoint = open_checkpoint(folder)
    params = checkpoint.read(np.float32, lambda path, array: jnp.asarray(array))
    compute = jax.jit(forward, static_argnums=2)
    return lambda ids: np.asarray(compute(params, pad(ids), checkpoint.arch))[:, -1]


def theirs(model) -> Callable[[np.ndarray], np.ndarray]:
    """The same by transformers."""
    import torch

    def run(ids: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            hidden = model(torch.from_numpy(ids), use_cache=False).last_hidden_state
        return hidden[:, -1].numpy()

    return run


def compare(name: str, runs: dict[str, Callable], texts: int, tokens: int) -> dict:
    """Tokens/s of both sides on one shape, in turn, and how far their vectors lie apart."""
    ids = np.random.default_rng(0).integers(5, WORDS, (texts, tokens))
    vectors = [run(ids) for run in runs.values()]
    apart = float(np.abs(vectors[0] - vectors[1]).max() / np.abs(vectors[1]).max())
    times = measure.alternate({side: partial(run, ids) for side, run in runs.items()}, ROUNDS)
    median = {side: statistics.median(wall for wall, _ in each) for side, each in times.items()}
    row = {"model": name, "texts": texts, "tokens": tokens, "apart": float(f"{apart:.1e}")}
    row |= {f"{side} tokens/s": round(texts * tokens / found) for side, found in median.items()}
    return row | {"ratio": round(median["transformers"] / median["jaxpool"], 2)}


def main(
    names: Annotated[list[str] | None, typer.Argument(help=", ".join(CONFIGS))] = None,
    layers: Annotated[int, typer.Option(help="Layers that are made.")] = 4,
    tiny: Annotated[bool, typer.Option("--tiny", help="A smoke test.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON of all rows.")] = None,
) -> None:
    """Print a row for each shape and number of tokens."""
    rows = []
    for name in names or CONFIGS:
        with TemporaryDirectory() as folder:
            model = make(name, layers, tiny, Path(folder))
            runs = {"jaxpool": ours(Path(folder)), "transformers": theirs(model)}
            for texts, tokens in SHAPES:
                rows.append(compare(name, runs, texts, tokens))
                print(json.dumps(rows[-1]), flush=True)
    versions = {name: version(name) for name in ("torch", "transformers")}
    measure.report(measure.machine() | versions | {"layers": layers}, rows, output)


if __name__ == "__main__":
    typer.run(main)
