"""Classifiers made of a language model's own vocabulary: logits of a few tokens and no others.

Qwen3-Reranker answers "yes" or "no", mxbai-rerank-v2 "1" or "0", bge-reranker-v2-gemma "Yes",
math-shepherd "+" or "-" at each step. The rows of the output embedding (`lm_head`, or the input
embedding it is tied to) of these tokens are the classifier; the rest of the vocabulary is left out.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from converters.derived import Derived
from converters.family import Head
from converters.heads.decisions import decides, read_decisions
from converters.report import CheckpointError
from jaxpool.heads.steps import Dense, Margin, Pool
from jaxpool.tasks.decisions import DecisionSettings

METHODS = TWO, ONE = "from_2_way_softmax", "no_post_processing"
NAME = "answers.weight"
GENERATING = ("ForCausalLM", "ForConditionalGeneration")  # what architectures' names end in
OUTPUTS = ("lm_head.weight", "output.weight")


def add(source, ids: Sequence[int], embedding: str, tied: bool) -> Derived:
    """The tensors of `source` and one more, `answers.weight`: rows `ids` of the output embedding.

    embedding: the name of the input embedding; tied: whether the output's is the same.
    """
    own = [] if tied else [name for name in OUTPUTS if name in source.keys()]
    if not own and not tied:
        raise CheckpointError(
            f"a classifier made of tokens needs {' or '.join(OUTPUTS)}: tie_word_embeddings is "
            "false, and the checkpoint has none of them"
        )
    output = own[0] if own else embedding
    vocab, *features = source.shape(output)
    if wrong := [i for i in ids if not 0 <= i < vocab]:
        raise CheckpointError(f"tokens {wrong} are out of vocabulary: {vocab} entries")
    shape = (len(ids), *features)
    return Derived(source, NAME, shape, output, lambda: source[output][list(ids)])


NO_DEFAULTS: Mapping[str, Any] = MappingProxyType({})


class Choice(NamedTuple):
    """A head of some tokens' logits: their ids, the same in words, and who says so.

    decisions: the settings of a model that decides.
    """

    head: Head
    ids: list[int]
    words: str
    origin: str
    decisions: DecisionSettings | None = None


def choose(config, folder: Path, pipeline, reranker, convert: str, returned) -> Choice | None:
    """What a checkpoint makes of tokens; None where it, or `convert`, makes another model.

    The ids `returned` (a PoolerConfig's returned_token_ids) are read at every token. Classifiers,
    in order: `method` (vLLM's name) with `classifier_from_token` in config.json or its overrides,
    the LogitScore module of sentence-transformers, a published reranker (see `rerankers`). Sets
    `config.num_labels`.
    """
    generates = (config.architectures or [""])[0].endswith(GENERATING)
    if decides(folder, convert):
        return _decisions(config, folder, generates)
    if returned and generates:
        ids = list(returned)
        return Choice(_head("token_classify", ids), ids, _listed(ids), "PoolerConfig")
    if convert == "embed":
        return None
    asked = getattr(config, "is_original_qwen3_reranker", False)
    method = TWO if asked else getattr(config, "method", None)
    tokens = tuple(getattr(config, "classifier_from_token", None) or ())
    origin, defaults = "config.json or hf_overrides", NO_DEFAULTS
    if method is None:
        if not generates or (pipeline and pipeline.pools):
            return None
        if pipeline and pipeline.answers:
            ids = list(pipeline.answers)
            return _classifier(config, ids, ids, len(ids) == 2, "LogitScore module", defaults)
        if not (reranker and reranker.method):
            return None
        method, tokens = reranker.method, tokens or reranker.tokens
        config.method, config.classifier_from_token = method, tokens
        origin, defaults = reranker.origin, reranker.defaults
    _check(method, tokens)
    return _classifier(config, tokens, _ids(tokens, folder), method == TWO, origin, defaults)


def _decisions(config, folder: Path, generates: bool) -> Choice:
    """The labels of all options; each question reads its own."""
    if not generates:
        raise CheckpointError(
            f"decisions are read from a causal language model, and {config.architectures} is none"
        )
    settings, ids = read_decisions(folder)
    head = _head("decide", ids, (Pool(("lasttoken",)),))
    origin = "decision.json" if settings.labels else "convert, generic labels"
    return Choice(head, ids, _listed(list(settings.columns)), origin, settings)


def _check(method: str, tokens: Sequence[str]) -> None:
    if method not in METHODS:
        raise ValueError(f"config.json: method {method!r} is unknown; known: {list(METHODS)}")
    if not tokens or (method == TWO and len(tokens) != 2):
        raise ValueError(
            f"config.json: method {method} needs {'two' if method == TWO else 'some'} tokens in "
            f"classifier_from_token, found {tokens!r}"
        )


def _classifier(config, tokens, ids: list[int], two: bool, origin: str, defaults) -> Choice:
    config.num_labels = 1 if two else len(ids)
    before, after = (Pool(("lasttoken",)),), (Margin(),) if two else ()
    words = f"{tokens[1]!r} over {tokens[0]!r}" if two else _listed(tokens)
    return Choice(_head("classify", ids, before, after, defaults), ids, words, origin)


def _listed(tokens: Sequence) -> str:
    return ", ".join(map(repr, tokens))


def _head(task: str, ids: Sequence[int], before=(), after=(), defaults=NO_DEFAULTS) -> Head:
    def steps(config, arch):
        return (*before, Dense("answers", arch.dim, len(ids), bias=False), *after)

    return Head(task, steps, f"heads.answers.kernel {NAME} O I", defaults)


def _ids(tokens: Sequence[str], folder: Path) -> list[int]:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise FileNotFoundError(f"classifier_from_token needs tokenizer.json in {folder}")
    vocabulary = Tokenizer.from_file(str(file))
    ids = [vocabulary.token_to_id(token) for token in tokens]
    if missing := [token for token, i in zip(tokens, ids, strict=True) if i is None]:
        raise ValueError(f"config.json: classifier_from_token: no token {missing} in {file.name}")
    return [i for i in ids if i is not None]
