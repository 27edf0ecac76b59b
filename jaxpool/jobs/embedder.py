"""`Embedder`: rows in, the same rows with a task's results out; for the engines people run."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from jaxpool.jobs.calls import HALF, Call, call
from jaxpool.jobs.fields import ERROR, TEXT, Column, Field
from jaxpool.jobs.frames import frame
from jaxpool.jobs.work import RowError, Work

ON_ERROR = ("raise", "null", "skip")
MODALITIES = ("text", "image")
PARAMS = ("dimensions", "use_activation", "returned_token_ids", "step_tag_id", "extra_kwargs")
CALLS = ("prompt", "prompt_name", "input_type", "chat_template")
# What an embedder prepares once, so that bad options show before any row.
SAMPLES = {"text": "a", "image": {"image": np.zeros((8, 8, 3), np.uint8)}}


class Embedder:
    """A task of a model on rows: `Embedder(model)(rows)` gives them back with columns added.

    Rows are a pyarrow Table or RecordBatch, a dict of NumPy arrays, a list of dicts or a pandas
    DataFrame, and come back as the same. It pickles as its options; the model loads at first use,
    once a process.

    task: any that `LLM.encode` runs ("embed", "token_embed", "classify", "sparse", "reward",
    "embed&sparse", ...), "score" or "entities". column: the text's name; of "score" two names.
    modality: "image", of a model that takes them, reads pictures: bytes of a file, its path, or
    {"bytes", "path"} as datasets has it. keep: the columns to keep (None: all). output: the name of
    the new column, if not the task's own. precision: float32, float16, int8, uint8, binary or
    ubinary, of vectors; dtype: what the model computes in, as in `jaxpool.load`. truncate: cut
    what is too long. on_error: a row that is no text, empty or too long raises, gets nulls and its
    reason in a column "error", or is left out ("skip").
    Further options: those of `LLM.encode` (prompt, prompt_name, input_type, tokenization_kwargs;
    adapter for its `task`), of `PoolingParams` (dimensions, use_activation, ...), "aggregation" of
    entities, "chat_template" of scores; all others go to `jaxpool.load`.
    """

    def __init__(
        self,
        model: Any,
        task: str = "embed",
        column: str | Sequence[str] = "text",
        *,
        modality: str = "text",
        keep: Sequence[str] | None = None,
        output: str | None = None,
        precision: str = "float32",
        dtype: str = "auto",
        truncate: bool = True,
        on_error: str = "raise",
        aggregation: str = "simple",
        **options: Any,
    ):
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {ON_ERROR}, got {on_error!r}")
        if modality not in MODALITIES:
            raise ValueError(f"modality must be one of {MODALITIES}, got {modality!r}")
        if modality != "text" and task in ("score", "entities"):
            raise ValueError(f"task {task!r} reads texts alone")
        if precision == HALF and "&" in task:
            raise ValueError("precision float16 is for one task")
        self.name, self.task, self.keep, self.output = model, task, keep, output
        self.columns = [column] if isinstance(column, str) else list(column)
        wanted = 2 if task == "score" else 1
        if len(self.columns) != wanted:
            raise ValueError(f"task {task!r} reads {wanted} column(s), got {self.columns}")
        self.precision, self.on_error, self.aggregation = precision, on_error, aggregation
        self.modality = modality
        cut = {"truncate_prompt_tokens": -1} if truncate else {}
        self.calls = {name: options.pop(name) for name in CALLS if name in options}
        self.calls["tokenization_kwargs"] = cut | dict(options.pop("tokenization_kwargs", {}))
        if "adapter" in options:
            self.calls["task"] = options.pop("adapter")
        self.params = {name: options.pop(name) for name in PARAMS if name in options}
        self.loading = {"dtype": dtype, **options}

    def __getstate__(self) -> dict:
        if not isinstance(self.name, str):
            raise TypeError("an Embedder of a loaded model does not pickle: give it a name to load")
        return {key: value for key, value in vars(self).items() if key not in ("model", "_call")}

    @property
    def options(self) -> dict[str, Any]:
        """What makes two embedders the same, but for the model's weights."""
        left_out = ("name", "model", "_call")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    @cached_property
    def model(self) -> Any:
        """The loaded `Model`: one a process for the same options."""
        if isinstance(self.name, str):
            return _loaded(self.name, self.loading)
        return getattr(self.name, "model", self.name)  # of an LLM, or itself

    @cached_property
    def _call(self) -> Call:
        kind = (self.task, self.output, self.precision, self.aggregation)
        made = call(self.model, *kind, self.params, self.calls)
        sample: Any = SAMPLES[self.modality]
        sample = sample if made.columns == 1 else (sample, sample)
        made.prepare([sample])
        return made

    @property
    def fields(self) -> list[Field]:
        """The columns that are added."""
        reasons = [Field(ERROR, TEXT)] if self.on_error == "null" else []
        return [*self._call.fields, *reasons]

    def __call__(self, rows: Any) -> Any:
        """The rows with results, in their own form."""
        return self.finish(self.prepare(rows))

    def prepare(self, rows: Any, faults: Mapping[int, str] | None = None) -> Work:
        """Check and tokenize rows; safe in a thread, while another computes.

        faults: what is known to be wrong with some of them, by their numbers.
        """
        found = frame(rows)
        texts: list[Any] = self._texts(found)
        fault = _fault if self.modality == "text" else _no_picture
        reasons = {i: why for i, text in enumerate(texts) if (why := fault(text))}
        reasons |= faults or {}
        good = [i for i in range(found.count) if i not in reasons]
        if self.modality == "image":
            texts = [{"image": _file(value)} for (value,) in texts]
        else:
            texts = [text[0] if len(text) == 1 else text for text in texts]
        prepared, more = _prepared(self._call.prepare, texts, good)
        reasons |= more
        if reasons and self.on_error == "raise":
            first = min(reasons)
            raise RowError(first, reasons[first])
        good = [i for i in good if i not in more]
        return Work(found, good, reasons, prepared, self._call.tokens(prepared) if good else 0)

    def finish(self, work: Work) -> Any:
        """Compute what was prepared."""
        values = self._call.compute(work.prepared) if work.good else [[] for _ in self._call.fields]
        rows = None
        if work.reasons and self.on_error == "skip":
            rows = work.good
        elif work.reasons:
            values = [_placed(each, work.good, work.rows.count) for each in values]
        added = [Column(*each) for each in zip(self._call.fields, values, strict=True)]
        if self.on_error == "null":
            reasons = [work.reasons.get(i) for i in range(work.rows.count)]
            added.append(Column(Field(ERROR, TEXT), reasons))
        names = {column.field.name for column in added}
        kept = work.rows.names if self.keep is None else self.keep
        return work.rows.take(rows, [name for name in kept if name not in names], added)

    def empty(self) -> Any:
        """A pyarrow Table of no rows with the columns of results; those kept are strings."""
        import pyarrow as pa

        names = dict.fromkeys([*self.columns, *(self.keep or ())])
        return self(pa.table({name: pa.array([], pa.string()) for name in names}))

    def _texts(self, rows: Any) -> list[tuple]:
        for name in (*self.columns, *(self.keep or ())):
            if rows.count and name not in rows.names:
                raise ValueError(f"no column {name!r}; columns: {list(rows.names)}")
        if not rows.count:
            return []
        return list(zip(*map(rows.column, self.columns), strict=True))


def _fault(texts: tuple) -> str | None:
    """Why a row's texts cannot be read, if so."""
    for text in texts:
        if text is None:
            return "null instead of a text"
        if not isinstance(text, str):
            return f"wanted a text, found {text!r:.80}"
        if not text.strip():
            return "an empty text"
    return None


def _no_picture(values: tuple) -> str | None:
    return "null instead of a picture" if _file(values[0]) is None else None


def _file(value: Any) -> Any:
    """A picture's bytes or path, of the struct that datasets has for them."""
    if isinstance(value, Mapping):
        return value.get("bytes") or value.get("path")
    return value


def _prepared(make: Callable, rows: list, good: list[int]) -> tuple[Any, dict[int, str]]:
    """What `make` makes of the good rows that it does not refuse, and why it refuses others."""
    reasons: dict[int, str] = {}

    def search(indices: list[int]) -> Any:
        try:
            return make([rows[i] for i in indices]) if indices else None
        except (ValueError, TypeError) as error:
            if len(indices) == 1:
                reasons[indices[0]] = str(error)
                return None
            middle = len(indices) // 2
            search(indices[:middle])
            search(indices[middle:])
            return None

    made = search(good)
    return (search([i for i in good if i not in reasons]) if reasons else made), reasons


def _placed(values: list, places: list[int], count: int) -> list:
    placed = [None] * count
    for place, value in zip(places, values, strict=True):
        placed[place] = value
    return placed


_models: dict[tuple, Any] = {}
_loading = threading.Lock()


def _loaded(name: str, options: Mapping[str, Any]) -> Any:
    """A model, loaded once a process; a forked one loads its own, as its parent's device threads
    are not there."""
    from jaxpool.loading import load

    key = (os.getpid(), name, repr(sorted(options.items(), key=lambda item: item[0])))
    with _loading:
        if key not in _models:
            _models[key] = load(name, **options)
        return _models[key]
