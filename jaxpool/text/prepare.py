"""From what a caller passes to what the engine computes on, with every check on the way.

`prepare` serves `LLM` and the server alike: pure functions of a model and a call, safe in threads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxpool.engine.batch import CONTROLS, NO_CUT, Request
from jaxpool.errors import RequestError
from jaxpool.heads.precision import unpack
from jaxpool.heads.steps import Activate
from jaxpool.tasks.outputs import LateChunking
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.tasks.task import Task
from jaxpool.tasks.token_rows import Inner, Words
from jaxpool.tasks.validate import check_late_chunking, check_tokens, resolve_params
from jaxpool.text.late_chunking import chunks
from jaxpool.text.late_interaction import SIDES
from jaxpool.text.options import Tokenization
from jaxpool.text.prompts import as_prompts
from jaxpool.text.tokenizer import NO_LIMIT, Tokens


@dataclass(frozen=True)
class Prepared(Request):
    """A request and what the host does to its result.

    keep: the token rows that count; rows: what becomes of them, where a task says so; columns: the
    classes (None returns all); shares: the columns are probabilities, to be renormalized; offsets:
    characters of each token; chunks: late chunks, whose vectors are the result; precision: what
    its vectors are quantized to; others: the same text for the further tasks of a call.
    """

    keep: np.ndarray | None = None
    rows: Inner | Words | None = None
    columns: tuple[int, ...] | None = None
    shares: bool = False
    offsets: np.ndarray | None = None
    chunks: LateChunking | None = None
    precision: str = "float32"
    others: tuple["Prepared", ...] = ()

    def finish(self, result: Any) -> Any:
        """The result the caller gets, from what the device computed; a tuple of several tasks'."""
        if isinstance(result, tuple):
            parts = zip((self, *self.others), result, strict=True)
            return tuple(request.finish(part) for request, part in parts)
        result = unpack(result, self.precision, self.dimensions)
        if self.chunks is not None:
            return result
        if self.keep is not None:
            result = result[self.keep]
        if self.rows is not None:
            return self.rows.gather(self.ids[self.keep], result)
        if self.columns is not None:
            result = result[..., list(self.columns)]
            if self.shares:
                # a softmax over some of the logits is the softmax over all, rescaled
                result = result / result.sum(axis=-1, keepdims=True)
        return result

    def against(self, query: np.ndarray) -> "Prepared":
        """The same text to be compared with token vectors `[T, F]`, by the last of its tasks."""
        *others, last = (self, *self.others)
        counted, last = last.keep, replace(last, keep=None, rows=None)
        first = replace(others[0], others=(*others[1:], last)) if others else last
        return replace(first, query=query, counted=counted)


def prepare(
    model,
    task: Task | tuple[Task, ...],
    prompts: Any,
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    offsets: bool = False,
    input_type: str | None = None,
) -> list[Prepared]:
    """One request a prompt, ready for `model.run`; raises before anything is computed.

    Of several tasks, every one must allow the parameters.

    prompt, prompt_name: an instruction put before each text, given or by its name in
    config_sentence_transformers.json; offsets: keep the characters of each token; input_type:
    "query" or "document", where late interaction was trained with markers, expansion and skips.
    """
    prompts = as_prompts(prompts)
    tasks = task if isinstance(task, tuple) else (task,)
    settings = [resolve_params(model, task, params, len(prompts)) for task in tasks]
    limit = min(token_limit(model, task) for task in tasks)
    options = Tokenization.of(tokenization_kwargs, limit, model.max_length)
    side = _side(model, tasks[0], input_type)
    if side is not None:
        prompt = side.prompts[input_type] if prompt is None and prompt_name is None else prompt
        options = options.shorter(side.limit(input_type))
    late = any(setting.late_chunking_params is not None for setting in settings[0])
    if late:
        check_late_chunking(model, prompts, options)
    prefix = instruction(model, prompt, prompt_name)
    skip = prompt_length(model, prefix, options)
    texts = [prefix + p if isinstance(p, str) else p for p in prompts]
    tokens = encode(model, texts, options, offsets or late)
    if prefix and (offsets or late):
        tokens = [t._replace(offsets=np.maximum(t.offsets - len(prefix), 0)) for t in tokens]
    skips = [skip if isinstance(prompt, str) else 0 for prompt in prompts]
    requests = [
        [_request(model, task, *each) for each in zip(tokens, own, skips, strict=True)]
        for task, own in zip(tasks, settings, strict=True)
    ]
    if side is not None:
        return [side.apply(r, input_type, model.tokenizer) for r in requests[0]]
    return [_together(*parts) for parts in zip(*requests, strict=True)]


def _request(model, task: Task, tokens: Tokens, params: PoolingParams, skip: int) -> Prepared:
    """The request of some tokens, with the rows of them that count in this task."""
    made = request(task, tokens, params, skip)
    if task.rows is None:
        return made
    return replace(made, keep=task.rows.keep(made.ids, model.tokenizer), rows=task.rows)


def _together(first: Prepared, *others: Prepared) -> Prepared:
    """One request of several tasks: the device has one set of controls for them."""
    for name in CONTROLS:
        if any(getattr(other, name) != getattr(first, name) for other in others):
            raise RequestError(f"these tasks differ in {name}: ask for each by itself")
    return replace(first, others=others) if others else first


def _side(model, task: Task, input_type: str | None):
    """The late-interaction settings for texts of this type; None where they are plain texts."""
    settings = model.late_interaction
    if settings is None or task.name != "token_embed" or input_type is None:
        return None
    if input_type not in SIDES:
        raise RequestError(f"unknown input_type {input_type!r}; known: {SIDES}")
    return settings


def token_limit(model, task: Task) -> int:
    """Tokens a request may have: the model's, or max_embed_len where embeddings say so."""
    config = model.pooler_config
    if task.name != "embed":
        return model.max_length
    if config.enable_chunked_processing:
        return config.max_embed_len or NO_LIMIT
    return min(config.max_embed_len or model.max_length, model.max_length)


def instruction(model, prompt: str | None, name: str | None) -> str:
    """The text before each prompt: `prompt`, or the one called `name`, or none."""
    if prompt is not None or name is None:
        return prompt or ""
    known = model.prompts
    if name not in known:
        raise RequestError(f"unknown prompt_name {name!r}; this model's prompts: {sorted(known)}")
    return known[name]


def prompt_length(model, prefix: str, options: Tokenization) -> int:
    """Leading tokens that pooling leaves out: those of the prompt where include_prompt is false."""
    if not prefix or model.include_prompt:
        return 0
    ids = options.encode(model.tokenizer, [prefix])[0].ids
    after = len(model.tokenizer.affixes[1]) if options.special_tokens else 0
    return len(ids) - after


def encode(model, prompts: Sequence, options: Tokenization, offsets: bool = False) -> list[Tokens]:
    """The checked tokens of texts, pairs `(a, b)` and id lists, in order."""
    tokenizer = model.tokenizer
    texts = [p for p in prompts if not isinstance(p, list)]
    encoded = iter(options.encode(tokenizer, texts, offsets) if texts else ())
    found = []
    for prompt in prompts:
        given = isinstance(prompt, list)
        tokens = options.of_ids(tokenizer, prompt) if given else next(encoded)
        tokens = options.padded(tokens, tokenizer)
        check_tokens(model, tokens.ids, options.limit, exact=given)
        found.append(tokens)
    return found


def request(task: Task, tokens: Tokens, params: PoolingParams, skip: int = 0) -> Prepared:
    """The request of some tokens under resolved parameters (see `resolve_params`)."""
    tag, columns, late = params.step_tag_id, params.returned_token_ids, params.late_chunking_params
    return Prepared(
        tokens.ids,
        tokens.types,
        dimensions=NO_CUT if params.dimensions is None else params.dimensions,
        activate=params.use_activation,
        skip=skip,
        adapter=params.adapter,
        keep=None if tag is None else np.flatnonzero(tokens.ids == tag),
        columns=tuple(columns) if columns else None,
        shares=params.use_activation and task.steps[-1] == Activate("softmax"),
        offsets=tokens.offsets,
        chunks=None if late is None else chunks(tokens, late),
        precision=task.precision,
    )
