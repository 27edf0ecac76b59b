"""jina-embeddings-v5-text: Qwen3 (-small) or EuroBERT (-nano) under one name, an adapter a task."""

from converters.families.decoder import arch as decoder_arch
from converters.families.decoder import family
from converters.lora import MERGED
from jaxpool.nn.arch import Arch

TASKS = ("retrieval", "text-matching", "classification", "clustering")


def arch(config) -> Arch:
    """The encoder says that it is no decoder; queries and keys are normalized in the decoder."""
    if getattr(config, "is_decoder", True):
        return decoder_arch(config, qk_norm="head")
    return decoder_arch(config, causal=False)


def adapter(config) -> str:
    """The folder of the adapter of `config.jina_task` (an override), retrieval by default.

    What an exported folder has merged is its default.
    """
    merged = getattr(config, MERGED, TASKS[0])
    task = getattr(config, "jina_task", None) or merged.rpartition("/")[2]
    if task not in TASKS:
        raise ValueError(f"jina_task {task!r} is unknown; known: {list(TASKS)}")
    return f"adapters/{task}"


JINA_V5 = family(
    "JinaEmbeddingsV5",
    arch,
    adapter=adapter,
    config="llama",
    examples=("jinaai/jina-embeddings-v5-text-small", "jinaai/jina-embeddings-v5-text-nano"),
)
