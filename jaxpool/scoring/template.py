"""Score templates: the prompt that a reranker made of a language model was trained with.

A template is Jinja over the messages `[{"role": "query"}, {"role": "document"}, ...]`, as
transformers renders chat templates. Those of published rerankers ship in `templates/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from os.path import commonprefix
from pathlib import Path
from typing import Any

from jaxpool.text import rendering

TELLING = 16  # characters by which a prompt is known
RESERVED = ("chat_template", "tools", "tokenize")  # names that the renderer itself passes


@dataclass(frozen=True)
class ScoreTemplate:
    """A template and how its text is to be tokenized.

    special_tokens: whether the tokenizer adds its own around the text; structured: contents are
    lists of parts, not texts; system: a message put before the query (sentence-transformers'
    default prompt); options: template variables; signs: what prompts begin and end with, by the
    special tokens, once it is known.
    """

    source: str
    special_tokens: bool = True
    structured: bool = False
    system: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    signs: dict[str, list] = field(default_factory=dict, compare=False, repr=False)

    def render(self, tokenizer, asked: Sequence[tuple], options: Mapping) -> list[str]:
        """The prompt of each (query, document, ...); `options` are variables (instruction).

        A pair that begins, or ends, as the template does was put into it by its caller, as vLLM's
        older examples do: it is only joined.
        """
        if clash := sorted(set(RESERVED) & set(options)):
            raise ValueError(
                "chat_template_kwargs contains reserved keys that conflict with fixed scorer "
                f"arguments: {clash}"
            )
        joined = ["".join(parts) for parts in asked]
        written = [self._is_written(tokenizer, text) for text in joined]
        bare = [parts for parts, done in zip(asked, written, strict=True) if not done]
        made = iter(self._made(tokenizer, bare, options) if bare else ())
        return [t if done else next(made) for t, done in zip(joined, written, strict=True)]

    def _is_written(self, tokenizer, text: str) -> bool:
        """Whether a text is a whole prompt, by what prompts begin and end with."""
        known = str(tokenizer.special_tokens_map)
        if known not in self.signs:
            self.signs[known] = [self._sign(tokenizer, told) for told in ((), ("instruction",))]
        return any(text.startswith(a) and text.endswith(b) for a, b in self.signs[known])

    def _sign(self, tokenizer, told: Sequence[str]) -> tuple[str, str]:
        """What prompts begin and end with, some variables given, as far as it tells them.

        A long start is enough; a short one is no sign without a long end.
        """
        one, other = (
            self._made(tokenizer, [(sign, sign)], dict.fromkeys(told, sign))[0] for sign in "\0\1"
        )
        start, end = commonprefix([one, other]), commonprefix([one[::-1], other[::-1]])[::-1]
        if len(start) >= TELLING:
            return start, ""
        return (start, end) if len(end) >= TELLING else ("\0", "\0")

    def _made(self, tokenizer, asked: Sequence[tuple], options: Mapping) -> list[str]:
        head = [] if self.system is None else [("system", self.system)]
        roles = [
            (*head, ("query", query), *(("document", text) for text in documents))
            for query, *documents in asked
        ]
        messages = [[self._message(*part) for part in parts] for parts in roles]
        variables = {**tokenizer.special_tokens_map, **self.options, **options}
        return rendering.render(self.source, messages, variables)

    def _message(self, role: str, text: str) -> dict[str, Any]:
        content = [{"type": "text", "text": text}] if self.structured else text
        return {"role": role, "content": content}


def load_template(given: str) -> ScoreTemplate:
    """A template from its text, its file, or the name of one that ships with jaxpool."""
    if "{" in given or "\n" in given:
        return ScoreTemplate(given)
    shipped = files("jaxpool") / "scoring" / "templates" / f"{given}.jinja"
    file = shipped if shipped.is_file() else Path(given)
    if not file.is_file():
        raise ValueError(
            f"chat template {given!r} is neither a file, nor the text of a template, nor one of "
            f"{shipped_templates()}"
        )
    return ScoreTemplate(file.read_text(encoding="utf-8"))


def shipped_templates() -> list[str]:
    """The names of the templates that ship with jaxpool."""
    folder = files("jaxpool") / "scoring" / "templates"
    return sorted(file.name.removesuffix(".jinja") for file in folder.iterdir())
