"""Training examples: columns of texts and a label, from files, datasets or plain iterables.

As in sentence-transformers, all columns but the label are texts in the order in which the loss
takes them; the label is called `label`, `labels`, `score` or `scores`. A column of lists (the
documents of a query) is as many columns as its longest list has texts: shorter lists are filled up
with empty texts, whose labels are not numbers.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LABELS = ("label", "labels", "score", "scores")


class Examples(NamedTuple):
    """Some examples: the names of the text columns, their texts `[N][C]`, and labels if any."""

    columns: tuple[str, ...]
    texts: list[tuple[str, ...]]
    labels: np.ndarray | None


def examples(source: str | Path | Iterable) -> Examples:
    """Read examples: a .jsonl or .parquet file, a Hugging Face dataset, or mappings or tuples.

    Tuples are texts alone, or texts and a number. Raises ValueError where there is no example, no
    text, or where examples differ in their columns.
    """
    rows = _rows(Path(source)) if isinstance(source, str | Path) else source
    found = [_mapping(row) for row in rows]
    if not found:
        raise ValueError("training data: wanted at least one example, found none")
    _check_columns(found)
    found = _widened(found)
    names = tuple(found[0])
    label = next((name for name in names if name in LABELS), None)
    columns = tuple(name for name in names if name != label)
    texts = [tuple(row[name] for name in columns) for row in found]
    _check_texts(columns, texts)
    if not columns:
        raise ValueError(f"training data: wanted columns of texts, found {names}")
    labels = _labels([row[label] for row in found]) if label else None
    return Examples(columns, texts, labels)


def _check_columns(found: list[Mapping[str, Any]]) -> None:
    names = tuple(found[0])
    for number, row in enumerate(found):
        if tuple(row) != names:
            raise ValueError(f"example {number}: wanted columns {names}, found {tuple(row)}")


def _widened(found: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same examples with every column of lists as several columns of texts."""
    lists = [n for n, x in found[0].items() if n not in LABELS and isinstance(x, list)]
    for name in lists:
        most = max(len(row[name]) for row in found)
        found = [_spread(row, name, most) for row in found]
    return found


def _spread(row: Mapping[str, Any], name: str, most: int) -> dict[str, Any]:
    missing = most - len(row[name])
    spread: dict[str, Any] = {}
    for column, value in row.items():
        if column == name:
            spread |= {f"{name}_{i}": x for i, x in enumerate([*value, *[""] * missing])}
        elif column in LABELS and isinstance(value, list | tuple | np.ndarray) and missing:
            spread[column] = [*value, *[math.nan] * missing]
        else:
            spread[column] = value
    return spread


def _check_texts(columns: tuple[str, ...], texts: list[tuple]) -> None:
    for number, row in enumerate(texts):
        for name, text in zip(columns, row, strict=True):
            if not isinstance(text, str):
                kind = type(text).__name__
                raise ValueError(f"example {number}: column {name!r} wanted a text, found {kind}")


def _labels(values: list) -> np.ndarray:
    widths = {np.shape(value) for value in values}
    if len(widths) > 1:
        raise ValueError(f"labels: wanted the same number in every example, found {sorted(widths)}")
    return np.array(values)


def _rows(path: Path) -> Iterable:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return parquet.read_table(path).to_pylist()
    if path.suffix in (".jsonl", ".json"):
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    raise ValueError(f"{path}: wanted .jsonl or .parquet")


def _mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if isinstance(row, Sequence) and not isinstance(row, str):
        texts = [part for part in row if isinstance(part, str)]
        rest = row[len(texts) :]
        if len(rest) > 1:
            raise ValueError(f"a tuple is texts and at most one label, found {row!r}")
        named = {f"text_{i}": text for i, text in enumerate(texts)}
        return named | ({"label": rest[0]} if len(rest) else {})
    raise ValueError(f"an example is a mapping or a tuple, found {type(row).__name__}")


class Batches:
    """The batches of a run, in an order that seed and step alone decide: any step can be resumed.

    sizes: examples of each dataset; a batch comes of one dataset, chosen by its size or in turn
    (`mix` "proportional" or "round_robin"). texts: those of each dataset, where no batch may hold
    a text twice, as in-batch negatives want it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int = 0,
        mix: str = "proportional",
        texts: Sequence[list[tuple[str, ...]]] | None = None,
    ):
        if mix not in ("proportional", "round_robin"):
            raise ValueError(f"mix must be proportional or round_robin, got {mix!r}")
        self.sizes, self.batch_size, self.seed = tuple(sizes), batch_size, seed
        self.mix, self.texts = mix, texts
        self.per_epoch = len(self._epoch(0))

    def from_step(self, step: int) -> Iterator[tuple[int, np.ndarray]]:
        """`(dataset, indices)` of step `step` and all after it, epoch after epoch."""
        epoch = 0
        batches = self._epoch(epoch)
        while True:
            if step < len(batches):
                yield from batches[step:]
            step = max(step - len(batches), 0)
            epoch += 1
            batches = self._epoch(epoch)

    def _epoch(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        random = np.random.default_rng((self.seed, epoch))
        queues = [self._cut(random.permutation(n), d) for d, n in enumerate(self.sizes)]
        turns = [d for d, queue in enumerate(queues) for _ in queue]
        if self.mix == "proportional":
            turns = random.permutation(turns).tolist()
        else:  # until the smallest has had its turns
            turns = list(range(len(queues))) * min(map(len, queues))
        heads = [iter(queue) for queue in queues]
        return [(d, next(heads[d])) for d in turns]

    def _cut(self, order: np.ndarray, dataset: int) -> list[np.ndarray]:
        """Full batches; those of less than a batch's examples make one of all."""
        size = min(self.batch_size, len(order))
        if self.texts is None:
            return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]
        texts, waiting = self.texts[dataset], order.tolist()
        batches: list[np.ndarray] = []
        while waiting:
            taken: list[int] = []
            left: list[int] = []
            seen: set[str] = set()
            for place, index in enumerate(waiting):
                if len(taken) == size:
                    left += waiting[place:]
                    break
                fresh = seen.isdisjoint(texts[index])
                (taken if fresh else left).append(index)
                seen.update(texts[index] if fresh else ())
            if len(taken) < size and batches:
                break
            batches.append(np.array(taken))
            waiting = left
        return batches
