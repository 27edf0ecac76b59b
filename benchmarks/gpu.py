"""Share of a GPU's matmul peak for encoder and decoder shapes; random weights, no network.

    python benchmarks/gpu.py [--tiny] [--output benchmarks/results/gpu.json]

Measures the bfloat16 matmul peak and the copy bandwidth, then tokens/s at several row lengths:
jaxpool (embedding from token ids to the normalized vector), and Hugging Face torch (eager with
SDPA, and torch.compile) where torch sees the device, in turn within one run. `--tiny` shrinks
everything to a smoke test for any machine; its numbers mean nothing.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import measure
import numpy as np
import transformers
import typer

from jaxpool import attention, params
from jaxpool.batch import Request, fill, place
from jaxpool.compile import Executor
from jaxpool.heads import Normalize, Pool
from jaxpool.sharding import make_mesh

LENGTHS = (32, 128, 512, 2048)
BUDGET = 32768  # tokens a call, both systems
BERT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
XLMR = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
QWEN = {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16}
CONFIGS = {
    "BERT-base": ("bert", BERT | {"intermediate_size": 3072}),
    "XLM-R-large": ("xlm-roberta", XLMR | {"intermediate_size": 4096, "vocab_size": 250002}),
    "Qwen3-0.6B": (
        "qwen3",
        QWEN
        | {"intermediate_size": 3072, "vocab_size": 151669}
        | {"num_key_value_heads": 8, "head_dim": 128},
    ),
}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16} | {
    "num_key_value_heads": 2
}


def seconds(run: Callable[[], object], rounds: int = 5) -> float:
    """The median time of a call, after one that compiles."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def bandwidth(megabytes: int) -> float:
    """Bytes a second of a device copy, read and write."""
    x = jnp.ones(megabytes << 18, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / seconds(lambda: copy(x).block_until_ready())


def configuration(kind: str, sizes: dict, longest: int):
    """A transformers configuration that reaches `longest` tokens."""
    return transformers.AutoConfig.for_model(kind, **sizes, max_position_embeddings=longest + 2)


def ours(config, length: int, rows: int):
    """`run()` of the whole program at a shape, and FLOPs of a call."""
    from converters.registry import find

    arch = find(config.to_dict()).arch(config)
    platform = jax.default_backend()
    arch = arch.replace(dtype="float32" if platform == "cpu" else "bfloat16")
    arch = arch.replace(kernel=attention.choose(platform, arch))
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.02, jnp.bfloat16)
    executor = Executor(weights, arch, make_mesh(1, 1))
    chains = ((Pool(("lasttoken" if arch.causal else "mean",)), Normalize()),)
    rng = np.random.default_rng(0)
    requests = [Request(rng.integers(5, 1000, length).astype(np.int32)) for _ in range(rows)]
    plan = place([[i] for i in range(rows)], rows, length, [length] * rows)
    arrays = fill(plan, requests, types=arch.token_types > 0)
    work = measure.flops(weights, arch, [length] * rows)
    return lambda: np.asarray(executor(chains, *arrays)[0]), work, attention.backend(arch, length)


def peers(config, length: int, rows: int) -> dict[str, Callable]:
    """Hugging Face torch, eager and compiled, mean-pooled; nothing where torch has no GPU."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    model = transformers.AutoModel.from_config(config, attn_implementation="sdpa")
    model = model.to("cuda", torch.bfloat16).eval()
    ids = torch.randint(5, 1000, (rows, length))

    @torch.inference_mode()
    def run(forward):
        hidden = forward(input_ids=ids.to("cuda")).last_hidden_state
        return torch.nn.functional.normalize(hidden.mean(1).float()).cpu()

    compiled = torch.compile(model)
    return {"torch": lambda: run(model), "torch.compile": lambda: run(compiled)}


def main(tiny: bool = False, output: Path | None = None):
    """Run every shape and print one line each."""
    budget, lengths = (256, (32, 128)) if tiny else (BUDGET, LENGTHS)
    peak = measure.peak("bfloat16", *((64, 64, 128) if tiny else (8192, 4096, 8192)))
    facts = {**measure.machine(), "smoke test": tiny, "budget": budget}
    facts["matmul peak TFLOP/s"] = peak() / 1e12
    facts["copy GB/s"] = bandwidth(8 if tiny else 1024) / 1e9
    print(json.dumps(facts, indent=1), flush=True)
    rows = []
    for name, (kind, sizes) in CONFIGS.items():
        sizes = sizes | TINY | {"vocab_size": 2000, "intermediate_size": 128} if tiny else sizes
        for length in lengths:
            config, count = configuration(kind, sizes, max(lengths)), max(1, budget // length)
            run, work, kernel = ours(config, length, count)
            for system, call in {"jaxpool": run, **peers(config, length, count)}.items():
                took = seconds(call)
                rate = work / took / 1e12
                line = {"model": name, "length": length, "system": system, "kernel": kernel}
                line |= {"tokens/s": round(count * length / took), "TFLOP/s": round(rate, 2)}
                line["of peak"] = round(rate / facts["matmul peak TFLOP/s"], 3)
                rows.append(line)
                print(json.dumps(line), flush=True)
    if output:
        output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
