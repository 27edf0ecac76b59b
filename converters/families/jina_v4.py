"""jina-embeddings-v4: Qwen2.5-VL with an adapter a task, for vectors of texts, images and tokens.

All is as in the code beside the model: the prefixes of texts, the words around an image, the mean
of an image's own tokens (of all where a text has none), the projection of each token. Its adapters
share one file; `jina_task` (an override) says which is used, retrieval by default.
"""

from dataclasses import replace

from converters.families.qwen2_5_vl import QWEN2_5_VL
from converters.family import Head, dense
from converters.heads.rerankers import own_name
from converters.joined import AS_WRITTEN
from converters.lora import MERGED
from jaxpool.heads.pools import PoolSpans
from jaxpool.heads.steps import Dense
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch

TASKS = ("retrieval", "text-matching", "code")


def task_of(config, merged: str = TASKS[0]) -> str:
    """The task of a configuration: the one asked for, or what an exported folder has merged."""
    merged = getattr(config, MERGED, merged).rpartition("/")[2]
    task, known = getattr(config, "jina_task", None) or merged, getattr(config, "task_names", TASKS)
    if task not in known:
        raise ValueError(f"jina_task {task!r} is unknown; known: {list(known)}")
    return task


def steps(config, arch: Arch) -> tuple:
    """The mean of an image's tokens, the two around it among them."""
    ends = config.vision_start_token_id, config.vision_end_token_id
    return (PoolSpans(("mean",), *ends),)


def tokens(config, arch: Arch) -> tuple:
    """A linear layer on every token."""
    return (Dense("projection", arch.dim, config.multi_vector_projector_dim),)


PROJECTION = dense("heads.projection", "multi_vector_projector")
WORDS = replace(
    AS_WRITTEN,
    seen="<|im_start|>user\n{content}<|im_end|>\n",
    caption="Describe the image.",
    read="Query: {content}",
    sides={"document": "Passage: {content}"},
    most=1,
)


def conversation(name: str, config) -> Conversation:
    """Texts to match one another have one prefix; a folder of one task has it in its name."""
    own = own_name(name).lower().partition("-vllm-")[2]
    task = task_of(config, own or TASKS[0])
    if own and task != own:
        raise ValueError(f"jina_task {task!r}: the adapter of {own!r} is merged into these weights")
    return replace(WORDS, sides={}) if task == "text-matching" else WORDS


JINA_V4 = replace(
    QWEN2_5_VL,
    name="JinaEmbeddingsV4",
    heads={"Model": Head("embed", steps, PROJECTION, tokens=tokens)},
    adapter=lambda config: f"adapters/{task_of(config)}",
    config="qwen2_5_vl",
    aliases={"matryoshka_dims": "matryoshka_dimensions"},
    conversation=conversation,
    examples=("jinaai/jina-embeddings-v4",),
)
# With the adapter of one task merged, and without the projection of tokens.
JINA_V4_MERGED = replace(
    JINA_V4,
    heads={"Model": Head("embed", steps, "")},
    adapter=None,
    examples=("jinaai/jina-embeddings-v4-vllm-retrieval",),
)
