"""From what a caller passes to what the engine computes on, with every check on the way.

`prepare` serves `LLM` and the server alike: pure functions of a model and a call, safe in threads.
In order: the prompts (`prompts`), the parameters (`tasks.validate`), what is asked of the tokenizer
(`options`), the instruction before each text, the tokens, and a request of each (`request`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from jaxpool.errors import RequestError
from jaxpool.tasks.input_types import find, meaning
from jaxpool.tasks.pooling_params import PoolingParams, with_task
from jaxpool.tasks.task import Task
from jaxpool.tasks.validate import check_count, resolve_params
from jaxpool.text.instructions import instruction, unsupported
from jaxpool.text.late_interaction import SIDES, LateInteraction
from jaxpool.text.limits import check_tokens, limit_of
from jaxpool.text.options import Tokenization
from jaxpool.text.prepared import Prepared
from jaxpool.text.prompts import Shortened, as_prompts
from jaxpool.text.request import Template
from jaxpool.text.tokenizer import Tokens

KEPT = 256  # calls of a model that are settled, at most


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

    task: of several, every one must allow the parameters; prompt, prompt_name: an instruction put
    before each text, given or by its name in config_sentence_transformers.json; offsets: keep the
    characters of each token; input_type: what the texts are for (see `instructions`).
    """
    prompts = as_prompts(prompts)
    check_count(len(prompts), params)
    asked = prompt, prompt_name, offsets, input_type
    settled = _known_call(model, task, params, tokenization_kwargs, asked)
    return settled(prompts)


@dataclass(frozen=True)
class Settled:
    """What a call asks for, checked: all of it but its prompts.

    templates, prefixes: one for all prompts, or one for each; offsets: whether the characters of
    tokens are kept; late: whether vectors are those of late chunks; trained: how texts of `side`
    were trained for late interaction.
    """

    model: Any
    templates: list[Template]
    prefixes: list[str]
    options: Tokenization
    offsets: bool
    late: bool
    trained: LateInteraction | None
    side: str

    def __call__(self, prompts: Sequence) -> list[Prepared]:
        """One request a prompt."""
        model, options, count = self.model, self.options, len(prompts)
        if self.late:
            _check_late_chunking(model, prompts, options)
        prefixes = _each(self.prefixes, count)
        tokens = _instructed(model, prompts, prefixes, options, self.offsets)
        skips = _skips(model, prompts, prefixes, options)
        each = zip(_each(self.templates, count), tokens, skips, strict=True)
        made = [template.of(one, skip) for template, one, skip in each]
        if self.trained is not None:
            return [self.trained.apply(one, self.side, model.tokenizer) for one in made]
        return made


def _each(values: list, count: int) -> list:
    """One value a prompt."""
    return values if len(values) == count else values * count


def settle(
    model,
    task: Task | tuple[Task, ...],
    params: PoolingParams | Sequence[PoolingParams] | None = None,
    tokenization_kwargs: Mapping[str, Any] | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    offsets: bool = False,
    input_type: str | None = None,
) -> Settled:
    """What `prepare` does before it reads a prompt, with the same arguments.

    With one set of parameters for all, what is settled once is so for any prompts.
    """
    tasks = task if isinstance(task, tuple) else (task,)
    params = _adapted(model, params, input_type)
    count = len(params) if isinstance(params, Sequence) else 1
    settings = [resolve_params(model, one, params, count) for one in tasks]
    options = Tokenization.of(tokenization_kwargs, limit_of(model, tasks), model.max_length)
    trained = _trained(model, tasks[0], input_type)
    side = meaning(input_type or "")
    if trained is not None:
        options = options.shorter(trained.limit(side))
        if prompt is None and prompt_name is None:
            prompt = trained.prompts[side]
    late = any(setting.late_chunking_params is not None for setting in settings[0])
    prefixes = _prefixes(model, tasks[0], settings[0], prompt, prompt_name, input_type)
    each = groupby(zip(*settings, strict=True))
    templates = [t for p, same in each for t in [Template(model, tasks, p)] * len(list(same))]
    found = templates, prefixes, options, offsets or late, late, trained, side
    return Settled(model, *found)


def _known_call(model, task, params: Any, tokenization_kwargs: Any, asked: tuple) -> Settled:
    """What a call asks for, settled once for all calls that ask for the same."""
    options = tuple((tokenization_kwargs or {}).items())
    each = tuple(vars(params).values()) if isinstance(params, PoolingParams) else params
    key = task, each, options, asked
    try:
        found = model.settled.get(key)
    except TypeError:  # it has a list in it
        return settle(model, task, params, tokenization_kwargs, *asked)
    if found is None:
        found = settle(model, task, params, tokenization_kwargs, *asked)
        if len(model.settled) >= KEPT:
            model.settled.clear()
        model.settled[key] = found
    return found


def _trained(model, task: Task, input_type: str | None) -> LateInteraction | None:
    """How texts of this type were trained for late interaction; None where they are plain texts."""
    settings = model.late_interaction
    if settings is None or task.name != "token_embed" or input_type is None:
        return None
    if meaning(input_type) not in SIDES:
        raise unsupported(input_type, SIDES)
    return settings


def _adapted(model, params: Any, input_type: str | None) -> Any:
    """A call's parameters with the adapter for an input type, where they choose none."""
    name = find(input_type, model.adapters)
    if name is None or getattr(params, "task", None) or isinstance(params, Sequence):
        return params
    return with_task(params, name)


def _prefixes(model, task: Task, settings: Sequence[PoolingParams], *asked) -> list[str]:
    """The instruction before each text: what is `asked`, or that of the adapter its task names."""
    found = {}
    for number in {one.adapter for one in settings}:
        if model.adapters and number and asked == (None, None, None):
            name = find(model.adapters[number - 1], model.prompts)
            found[number] = model.prompts[name] if name else ""
        else:
            found[number] = instruction(model, task, *asked)
    return [found[one.adapter] for one in settings]


def _check_late_chunking(model, prompts: Sequence, options: Tokenization) -> None:
    """Refuse late chunking of anything but whole texts, in which tokens have character offsets."""
    if model.pooler_config.tok_pooling_type == "STEP":
        raise RequestError("Late chunking does not support step pooling")
    if not all(isinstance(prompt, str) and prompt for prompt in prompts):
        raise RequestError("Late chunking requires nonempty plain-text input")
    lower = options.lower_case or model.tokenizer.lower_case
    if options.truncate is not None or options.pad is not None or lower:
        raise RequestError(
            "Late chunking does not support input padding, truncation or renderer text "
            "normalization"
        )


def _instructed(
    model, prompts: Sequence, prefixes: list[str], options: Tokenization, offsets: bool
) -> list[Tokens]:
    """The tokens of prompts, each text behind its prefix; offsets count from the text's start."""
    if not any(prefixes):
        return encode(model, prompts, options, offsets)
    each = list(zip(prefixes, prompts, strict=True))
    texts = [type(p)(prefix + p) if isinstance(p, str) else p for prefix, p in each]
    tokens = encode(model, texts, options, offsets)
    return [t.after(prefix) for t, prefix in zip(tokens, prefixes, strict=True)]


def _skips(model, prompts: Sequence, prefixes: list[str], options: Tokenization) -> list[int]:
    """Leading tokens that pooling leaves out: those of a prefix where include_prompt is false."""
    if not any(prefixes):
        return [0] * len(prompts)
    known = {"": 0}
    after = len(model.tokenizer.affixes[1]) if options.special_tokens else 0
    for prefix in set(prefixes) - known.keys() if not model.include_prompt else ():
        known[prefix] = len(options.encode(model.tokenizer, [prefix])[0].ids) - after
    each = zip(prompts, prefixes, strict=True)
    return [known.get(prefix, 0) if isinstance(prompt, str) else 0 for prompt, prefix in each]


def encode(model, prompts: Sequence, options: Tokenization, offsets: bool = False) -> list[Tokens]:
    """The checked tokens of texts, pairs `(a, b)` and id lists, in order."""
    tokenizer = model.tokenizer
    if model.arch.patches:
        raise RequestError("this model reads images alone, and the prompt is a text")
    if model.padded:
        options = replace(options, pad=model.padded)
    texts = [prompt for prompt in prompts if not isinstance(prompt, list)]
    found = options.encode(tokenizer, texts, offsets) if texts else []
    if given := len(texts) < len(prompts):
        encoded = iter(found)
        found = [
            options.of_ids(tokenizer, prompt) if isinstance(prompt, list) else next(encoded)
            for prompt in prompts
        ]
    if options.pad:
        found = [options.padded(tokens, tokenizer) for tokens in found]
    sizes = [len(tokens.ids) for tokens in found]
    # A tokenizer gives no id beyond its vocabulary, which is most often that of the model.
    if given or not all(sizes) or max(sizes) > options.limit or not _known(model):
        for prompt, tokens in zip(prompts, found, strict=True):
            check_tokens(model, tokens.ids, options.limit, exact=isinstance(prompt, list))
    for place, prompt in enumerate(prompts):
        if isinstance(prompt, Shortened):
            found[place] = found[place]._replace(cut=True)
    return found


def _known(model) -> bool:
    return model.tokenizer.largest_id < model.arch.vocab
