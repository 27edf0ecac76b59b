"""Files of generated texts, and a job on them."""

import gzip
import json

import numpy as np
import pyarrow as pa
import zstandard
from pyarrow import csv, parquet

from jaxpool.jobs.corpus import Corpus

WORDS = "a cat purrs while dogs bark at the moon over the house of Berlin".split()


def texts_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 30))) for _ in range(count)]


def write(path, texts, first=0):
    """Rows of ids and texts in the format that a name says."""
    table = pa.table({"id": range(first, first + len(texts)), "text": texts})
    kind = path.name.partition(".")[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    match kind:
        case "txt":
            path.write_text("".join(text + "\n" for text in texts))
        case "jsonl":
            path.write_bytes(lines)
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines[:1000]) + gzip.compress(lines[1000:]))
        case "jsonl.zst":
            path.write_bytes(zstandard.compress(lines))
        case "csv":
            csv.write_csv(table, path)
        case "parquet":
            parquet.write_table(table, path, row_group_size=100)
        case "arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=70)
        case "feather":
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=70)
    return path


def run(embedder, inputs, output, **options):
    options = {"chunk": 64, "seconds": 0} | options
    inputs = [str(path) for path in (inputs if isinstance(inputs, list) else [inputs])]
    return Corpus(inputs, str(output), **options).run(embedder)


def vectors_of(embedder, texts):
    found = embedder(pa.table({"text": texts}))["embedding"]
    return np.array(found.to_pylist(), np.float32)


class Killed(BaseException):
    """What ends a job in the middle."""
