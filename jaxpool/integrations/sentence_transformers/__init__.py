"""sentence-transformers' two classes over jaxpool's models: a script changes its import and runs.

`encode`, `similarity`, `predict` and `rank` take the arguments that scripts pass, those that only
concern torch (device, batch_size, convert_to_numpy, ...) without effect. Arrays are NumPy's, where
convert_to_tensor asks for torch's too. `util` has the functions that go with them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxpool.integrations.sentence_transformers import util
from jaxpool.integrations.sentence_transformers.util import normalize_embeddings as _unit
from jaxpool.llm import LLM
from jaxpool.tasks.input_types import find
from jaxpool.tasks.pooling_params import PoolingParams

__all__ = ["CrossEncoder", "SentenceTransformer", "util"]

CUT = {"truncate_prompt_tokens": -1}
# What only torch or a screen is concerned with.
IGNORED = {"device", "batch_size", "chunk_size", "num_workers", "pool", "show_progress_bar"}
IGNORED |= {"convert_to_numpy", "convert_to_tensor", "output_value"}
PLAIN = {"output_value": "sentence_embedding"}


def _nothing_else(options: dict) -> None:
    for name, value in options.items():
        if name not in IGNORED or (name in PLAIN and value != PLAIN[name]):
            raise TypeError(f"{name}={value!r} is not supported here")


class _Loaded:
    def __init__(self, model_name_or_path: str | LLM, **options: Any):
        given = model_name_or_path
        for name in ("device", "trust_remote_code", "backend"):
            options.pop(name, None)
        self.llm = given if isinstance(given, LLM) else LLM(given, **options)

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text at most; may be set to fewer."""
        return self.llm.model.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        if not 1 <= tokens <= self.max_seq_length:
            raise ValueError(
                f"max_seq_length {tokens}: the model was loaded for 1 to {self.max_seq_length} "
                f"tokens; load it with max_model_len={tokens}"
            )
        self.llm.model = replace(self.llm.model, max_length=tokens)


class SentenceTransformer(_Loaded):
    """An embedding model; options are those of `jaxpool.LLM`, and truncate_dim.

    prompts: instructions by their names, beside those of the checkpoint or in their place;
    default_prompt_name: the one that `encode` applies.
    """

    def __init__(
        self,
        model_name_or_path: str | LLM,
        *,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        truncate_dim: int | None = None,
        **options,
    ):
        super().__init__(model_name_or_path, **options)
        # As there: queries and documents have a prompt, "" where nothing says another.
        self.prompts = {"query": "", "document": "", **self.llm.model.prompts, **(prompts or {})}
        self._own = self.prompts if prompts else {}
        self.default_prompt_name, self.truncate_dim = default_prompt_name, truncate_dim
        if default_prompt_name is not None and default_prompt_name not in self.prompts:
            known = ", ".join(self.prompts)
            raise ValueError(f"no prompt {default_prompt_name!r}; known: {known or 'none'}")

    def _instruction(self, prompt: str | None, prompt_name: str | None, kinds: Sequence) -> dict:
        """What `Model.encode` is told of instructions: ours stand in for the checkpoint's."""
        if prompt is None and prompt_name is None:
            names = self._own or self.llm.model.prompts
            found = (find(kind, names) for kind in kinds)
            prompt_name = next(filter(None, found), self.default_prompt_name)
        if prompt is None and prompt_name is not None and prompt_name in self._own:
            return {"prompt": self._own[prompt_name]}
        return {"prompt": prompt, "prompt_name": prompt_name}

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        precision: str = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        input_type: str | None = None,
        task: str | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Vectors `[N, F]`, or `[F]` of a single text; truncate_dim keeps leading features."""
        _nothing_else(options)
        size = truncate_dim or self.truncate_dim
        exact = size is not None or normalize_embeddings
        vectors = self.llm.model.encode(
            sentences,
            **self._instruction(prompt, prompt_name, (task, input_type)),
            input_type=input_type,
            task=task,
            precision="float32" if exact else precision,
        )[..., :size]
        if normalize_embeddings:
            vectors = _unit(vectors)
        if exact and precision != "float32":
            raise ValueError(f"precision {precision!r} goes without truncate_dim and normalizing")
        return vectors

    def encode_query(self, sentences: str | Sequence[str], **options: Any) -> np.ndarray:
        """`encode` with the prompt, and by the path, that queries have."""
        return self.encode(sentences, **{"input_type": "query"} | options)

    def encode_document(self, sentences: str | Sequence[str], **options: Any) -> np.ndarray:
        """`encode` with the prompt, and by the path, that documents have."""
        return self.encode(sentences, **{"input_type": "document"} | options)

    @property
    def similarity_fn_name(self) -> str:
        """How vectors compare, by the checkpoint: cosine, dot, euclidean or manhattan."""
        file = self.llm.model.checkpoint.folder / "config_sentence_transformers.json"
        told = json.loads(file.read_text(encoding="utf-8-sig")) if file.is_file() else {}
        return told.get("similarity_fn_name") or "cosine"

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Similarities of all pairs `[N, M]`; distances are negative."""
        a, b = (np.atleast_2d(np.asarray(x, np.float32)) for x in (embeddings1, embeddings2))
        match self.similarity_fn_name:
            case "cosine":
                return _unit(a) @ _unit(b).T
            case "dot":
                return a @ b.T
            case "euclidean":
                return -np.stack([np.linalg.norm(row - b, axis=1) for row in a])
            case "manhattan":
                return -np.stack([np.abs(row - b).sum(axis=1) for row in a])
        raise ValueError(f"unknown similarity {self.similarity_fn_name!r}")

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Similarities of the pairs `[N]`; distances are negative."""
        a, b = (np.atleast_2d(np.asarray(x, np.float32)) for x in (embeddings1, embeddings2))
        pairs = zip(a, b, strict=True)
        return np.array([self.similarity(x, y)[0, 0] for x, y in pairs], np.float32)

    def get_sentence_embedding_dimension(self) -> int:
        """Features of a vector."""
        return min(self.llm.model_config.embedding_size, self.truncate_dim or 10**9)

    get_embedding_dimension = get_sentence_embedding_dimension


class CrossEncoder(_Loaded):
    """A reranker or pair classifier; options are those of `jaxpool.LLM`."""

    def predict(self, sentences: Any, *, use_activation: bool | None = None, **options: Any) -> Any:
        """Scores `[N]` of pairs, or one of a single pair, by the checkpoint's activation."""
        _nothing_else(options)
        single = isinstance(sentences[0], str)
        pairs = [tuple(sentences)] if single else [tuple(pair) for pair in sentences]
        outputs = self.llm.score(
            *map(list, zip(*pairs, strict=True)),
            pooling_params=PoolingParams(use_activation=use_activation),
            tokenization_kwargs=CUT,
            use_tqdm=False,
        )
        scores = np.array([output.outputs.score for output in outputs], np.float32)
        return scores[0] if single else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict]:
        """Documents by their score with a query, the best first: corpus_id, score, maybe text."""
        scores = self.predict([(query, document) for document in documents], **options)
        order = np.argsort(-scores, kind="stable")[:top_k]
        text = (lambda i: {"text": documents[i]}) if return_documents else (lambda i: {})
        return [{"corpus_id": int(i), "score": scores[i]} | text(i) for i in order]
