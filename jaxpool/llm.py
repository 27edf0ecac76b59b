"""`LLM`: vLLM's offline API over `Model`."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxpool.batch import Request
from jaxpool.model import load
from jaxpool.outputs import EmbeddingOutput, EmbeddingRequestOutput
from jaxpool.requests import PoolerConfig, PoolingParams, as_prompts
from jaxpool.task import Task


class LLM:
    """Runs a pooling model offline.

    The arguments are those of `jaxpool.load`. `trust_remote_code` is accepted and never runs
    code from a checkpoint: every architecture is implemented here.
    """

    def __init__(
        self,
        model: str,
        *,
        runner: str = "auto",
        dtype: str = "auto",
        max_model_len: int | None = None,
        hf_overrides: Mapping | Callable | None = None,
        pooler_config: PoolerConfig | Mapping | None = None,
        trust_remote_code: bool = False,
        revision: str | None = None,
        tensor_parallel_size: int = 1,
        data_parallel_size: int | None = None,
    ):
        if runner not in ("auto", "pooling"):
            raise ValueError(f"runner={runner!r}: jaxpool runs pooling models (auto, pooling)")
        self.model = load(
            model,
            dtype=dtype,
            revision=revision,
            max_model_len=max_model_len,
            hf_overrides=hf_overrides,
            pooler_config=pooler_config,
            tensor_parallel_size=tensor_parallel_size,
            data_parallel_size=data_parallel_size,
        )

    def get_tokenizer(self):
        """The tokenizer as a transformers object."""
        return self.model.tokenizer.transformers

    def embed(
        self,
        prompts: Any,
        *,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        use_tqdm: bool | Callable = True,
        tokenization_kwargs: Mapping | None = None,
    ) -> list[EmbeddingRequestOutput]:
        """Embed prompts: a text, token ids, a prompt dict, or a list of them."""
        task = self._task("embed")
        requests = self._requests(as_prompts(prompts), pooling_params, task, tokenization_kwargs)
        vectors = self._run(task, requests, use_tqdm)
        return [
            EmbeddingRequestOutput(str(i), EmbeddingOutput(vector.tolist()), request.ids.tolist())
            for i, (vector, request) in enumerate(zip(vectors, requests, strict=True))
        ]

    def _task(self, name: str) -> Task:
        if name not in self.model.tasks:
            raise ValueError(
                "Embedding API is not supported by this model. Try converting the model using "
                "`--convert embed`."
            )
        return self.model.tasks[name]

    def _requests(self, prompts, pooling_params, task, tokenization_kwargs) -> list[Request]:
        params = self._params(pooling_params, len(prompts))
        ids = self._ids(prompts, dict(tokenization_kwargs or {}))
        return [
            Request(tokens, types, activate=_or(p.use_activation, task.activate))
            for (tokens, types), p in zip(ids, params, strict=True)
        ]

    def _params(self, given, count: int) -> list[PoolingParams]:
        if given is None or isinstance(given, PoolingParams):
            return [copy.copy(given or PoolingParams())] * count
        if len(given) != count:
            raise ValueError(
                f"The lengths of prompts ({count}) and params ({len(given)}) must be the same."
            )
        return [copy.copy(p) for p in given]

    def _ids(self, prompts, options: dict) -> list[tuple[np.ndarray, np.ndarray | None]]:
        truncate = options.pop("truncate_prompt_tokens", None)
        limit = self.model.max_length if truncate == -1 else truncate
        texts = [p for p in prompts if isinstance(p, str)]
        encoded = iter(self.model.tokenizer(texts, truncate=limit))
        found = [
            next(encoded) if isinstance(p, str) else (np.array(p, np.int32)[:limit], None)
            for p in prompts
        ]
        for tokens, _ in found:
            self._check(tokens)
        return found

    def _check(self, tokens: np.ndarray) -> None:
        limit, vocab = self.model.max_length, self.model.arch.vocab
        if not len(tokens):
            raise ValueError("The decoder prompt cannot be empty")
        if len(tokens) > limit:
            raise ValueError(
                f"This model's maximum context length is {limit} tokens. However, your prompt "
                f"contains {len(tokens)} input tokens, which exceeds this limit even without any "
                "output tokens. Please reduce the length of the input prompt."
            )
        if tokens.min() < 0 or tokens.max() >= vocab:
            bad = int(tokens[(tokens < 0) | (tokens >= vocab)][0])
            raise ValueError(f"Token id {bad} is out of vocabulary")

    def _run(self, task: Task, requests: list[Request], use_tqdm) -> list[np.ndarray]:
        results: list = [None] * len(requests)
        make = use_tqdm if callable(use_tqdm) else tqdm
        bar = make(
            total=len(requests),
            desc="Processed prompts",
            dynamic_ncols=True,
            disable=not use_tqdm,
        )
        with bar:
            for index, result in self.model.run(task, requests):
                results[index] = result
                bar.update()
        return results


def _or(value, default):
    return default if value is None else value
