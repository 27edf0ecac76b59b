"""`encode`: sentence-transformers' call, with its defaults, where `LLM.embed` keeps vLLM's."""

from collections.abc import Sequence

import numpy as np

from jaxpool.offline import run
from jaxpool.tasks.pooling_params import PoolingParams

PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


def encode(
    model,
    texts: str | Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    input_type: str | None = None,
    dimensions: int | None = None,
    task: str | None = None,
    precision: str = "float32",
) -> np.ndarray:
    """Vectors `[texts, F]`, or `[F]` of a single text; what is too long is cut.

    The checkpoint's default prompt is applied unless `prompt` or `prompt_name` says otherwise;
    input_type "query" or "document" chooses the prompt of that name and the path of a Router, task
    the adapter of that name (jina-embeddings-v3's "retrieval.query", ...) and its prompt;
    precision: float32, int8, uint8, binary or ubinary (see `jaxpool.heads.precision`).
    """
    single = isinstance(texts, str)
    _, vectors = run(
        model,
        model.task("embed", input_type, precision),
        [texts] if single else list(texts),
        PoolingParams(dimensions=dimensions, task=task),
        tokenization_kwargs={"truncate_prompt_tokens": -1},
        prompt=prompt,
        prompt_name=prompt_name or _prompt_name(model, prompt, input_type, task),
    )
    return vectors[0] if single else np.stack(vectors)


def _prompt_name(model, prompt, input_type: str | None, task: str | None) -> str | None:
    if prompt is not None:
        return None
    named = (name for name in (task, *PROMPTS.get(input_type, ())) if name in model.prompts)
    return next(named, model.default_prompt)
