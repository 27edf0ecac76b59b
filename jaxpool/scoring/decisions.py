"""Typed decisions: a state and questions about it to the probability of every option.

A question's prompt is read at its last token, or before its mark in a model's own template; the
logits of the options' labels are scaled by the temperature of its kind. The prompts of one state
share what they begin with. The contract is that of transformers' `DecisionPipeline`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Fast

from jaxpool.engine.shared_prefix import common
from jaxpool.errors import RequestError
from jaxpool.scoring.parts import Pair, Part, Scoring
from jaxpool.tasks.decisions import DecisionSettings, Question, questions
from jaxpool.tasks.validate import resolve_params
from jaxpool.text.chat_templates import chat_templates
from jaxpool.text.control_tokens import Reader, control_tokens, marked
from jaxpool.text.options import Tokenization
from jaxpool.text.prepare import encode
from jaxpool.text.rendering import render
from jaxpool.text.request import requests

MARK, SPLIT = "<|mark|>", "<|split|>"  # where a template is read, and where its text is cut


def prepare_decisions(model, given: Sequence[Any]) -> Scoring:
    """The answers of requests `{"state": ..., "questions": {name: question}}`, or their JSON.

    `combine` gives those of each by the questions' names. Raises before anything is computed.
    """
    if (settings := getattr(model.checkpoint.choice, "decisions", None)) is None:
        raise RequestError(
            "this model does not decide: wanted a causal language model with a decision.json, or "
            'loaded with convert="decide"'
        )
    if not model.arch.causal:
        raise RequestError("decisions are read at a token that sees those before it alone")
    task, made, each = model.task("decide"), [], []
    (params,) = resolve_params(model, task, None, 1)
    for request in given:
        state, asked = _read(request, settings)
        groups = _groups(asked, settings)
        read = [pair for group in groups for pair in _prompts(model, settings, state, group)]
        tokens = encode(model, [ids for ids, _ in read], Tokenization.of(None, model.max_length))
        own = requests(model, (task,), tokens, [(params,)] * len(read))
        shared = common([one.ids for one in own]) if model.context else 0
        made += [replace(one, shared=shared) for one in own]
        each.append([question for _, question in read])
    names = [Pair(str(i), one.ids.tolist()) for i, one in enumerate(made)]

    def combine(results: Sequence[np.ndarray]) -> Any:
        left = iter(results)
        return [
            {q.name: q.answer(_shares(settings, q, next(left))) for q in asked} for asked in each
        ]

    return Scoring((Part(task, made),), names, combine)


def _read(request: Any, settings: DecisionSettings) -> tuple[Any, list[Question]]:
    """The state and the questions of a request."""
    if isinstance(request, str):  # so that escapes hide no control tokens
        request = json.loads(request)
    if not isinstance(request, Mapping) or not {"state", "questions"} <= request.keys():
        raise RequestError(
            'a request is {"state": ..., "questions": {name: question}}, or its JSON'
        )
    if request.get("assets"):
        raise RequestError("assets: images need a model that decides about them", "assets")
    if not settings.sanitize:  # such a template escapes texts itself, but for the marks
        text = json.dumps(request, ensure_ascii=False)
        request = json.loads(text.replace(MARK, "").replace(SPLIT, ""))
    return request["state"], questions(request["questions"], settings)


def _groups(asked: list[Question], settings: DecisionSettings) -> list[list[Question]]:
    """The questions of each prompt: one, or all where the template walks through them."""
    template = settings.chat_template or ""
    return [asked] if _walks(template) else [[question] for question in asked]


@lru_cache
def _walks(template: str) -> bool:
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import loopcontrols
    from jinja2.meta import find_undeclared_variables

    try:
        parsed = Environment(extensions=[loopcontrols]).parse(template)
    except TemplateSyntaxError as error:
        raise RequestError(f"decision template, line {error.lineno}: {error.message}") from None
    return "questions" in find_undeclared_variables(parsed)


def _prompts(
    model, settings: DecisionSettings, state: Any, group: list[Question]
) -> list[tuple[list[int], Question]]:
    """The token ids up to where each question of one prompt is answered.

    What follows in the prompt is seen by no token before it: these models are causal.
    """
    tokenizer = model.tokenizer
    variables = dict(tokenizer.transformers.special_tokens_map)
    content: Any = ""
    template = settings.chat_template
    values = {"state": state, "question": group[0].variables()}
    values["questions"] = [question.variables() for question in group]
    reader = _marking(tokenizer.fast)
    if template is None:
        template = chat_templates(tokenizer.folder).get("default")
        if template is None:
            raise RequestError("the tokenizer has no chat template, and decisions need one")
        content, values = written(state, group[0]), {}
    if settings.sanitize:
        tokens = control_tokens(reader.fast, template)
        content, values = marked(content, tokens), marked(values, tokens)
    message = [{"role": "user", "content": content}]
    told = {"add_generation_prompt": True, "enable_thinking": False}
    (text,) = render(template, [message], variables | values | told)
    return list(zip(_cut(reader, reader.encode(text), len(group)), group, strict=True))


@lru_cache(maxsize=8)
def _marking(fast: Fast) -> Reader:
    """A tokenizer that knows the marks, which no text of a request can write."""
    return Reader.of(fast, (MARK, SPLIT))


def _cut(reader: Reader, ids: list[int], count: int) -> list[list[int]]:
    """The ids before each mark, without the marks; all of them where a prompt has none."""
    mark, split = map(reader.fast.token_to_id, (MARK, SPLIT))
    kept: list[int] = []
    found: list[list[int]] = []
    for token in ids:
        if token == mark:
            found.append(list(kept))
        elif token != split:
            kept.append(token)
    found = found or [kept]
    if len(found) != count:
        raise RequestError(f"the template marks {len(found)} places for {count} questions")
    return found


def _shares(settings: DecisionSettings, question: Question, logits: np.ndarray) -> np.ndarray:
    """The probability of each option, in float32."""
    own = logits[[settings.columns[label] for label in question.labels]]
    own = own / np.float32(settings.temperature.get(question.type, 1.0))
    odds = np.exp(own - own.max())
    return odds / odds.sum()


def written(state: Any, question: Question) -> str:
    """The generic prompt: the state, the question, and its options behind their labels."""
    lines = [_text(question.instructions)]
    options = zip(question.labels, question.options, question.descriptions, strict=True)
    for label, option, description in options:
        meaning = _text(description)
        if question.type == "noul":
            meaning = meaning or ("" if question.labels == ["Yes", "No"] else option)
            lines.append(f"{label}: {meaning}" if meaning else "")
            continue
        if question.type == "choice":
            meaning = f"{option}: {meaning}" if meaning else option
        lines.append(f"{label}. {meaning}")
    body = "\n".join(filter(None, lines))
    return f"{_text(state)}\n\n{body}\n{_wanted(question)}"


def _wanted(question: Question) -> str:
    first, last, labels = question.labels[0], question.labels[-1], question.labels
    if question.type == "noul":
        return f"Answer {first} or {labels[1]} only."
    letters = labels == [chr(ord("A") + i) for i in range(len(labels))]
    kind, what = (
        "letter" if letters else "label",
        "option" if question.type == "choice" else "level",
    )
    return f"Answer with the {kind} of the {what} that fits best ({first} to {last}) only."


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
