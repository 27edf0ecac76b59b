"""What a checkpoint can do: its tasks, and where each setting of its pooling comes from.

A setting comes from the user's `PoolerConfig`, else from the sentence-transformers files, else from
the defaults of the model class; `Resolution.origins` says from which.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from jaxpool.heads.decoded import PoolDecoded
from jaxpool.heads.largest import Largest
from jaxpool.heads.others import PoolOthers
from jaxpool.heads.pooling import POOLS
from jaxpool.heads.steps import Activate, Calibrate, Cut, Norm, Normalize, Pool, is_pooled, width
from jaxpool.nn.primitives import TORCH_ACTIVATIONS
from jaxpool.tasks.pooling_params import (
    LEARNED,
    PoolerConfig,
    sequence_pooling,
    sequence_pooling_name,
)
from jaxpool.tasks.task import Task, default
from jaxpool.tasks.validate import check_step

USER, FILES, CLASS = "PoolerConfig", "sentence-transformers files", "model class"
TORCH = "torch.nn.modules."


class Resolution(NamedTuple):
    """The tasks of a model, the one it serves by default, and its settings with their origins."""

    tasks: dict[str, Task]
    pooling_task: str
    pooler_config: PoolerConfig
    origins: dict[str, str]


def resolve(checkpoint, user: PoolerConfig) -> Resolution:
    """The tasks of an opened checkpoint under a user's settings."""
    kind = checkpoint.head.task if checkpoint.uses_head else "embed"
    if kind not in TASKS:
        raise ValueError(
            f"{checkpoint.architecture}: no task uses this head ({kind}); "
            '`convert="embed"` makes it an embedding model'
        )
    given = {name: value for name, value in asdict(user).items() if name != "pooling_type"}
    sources = {USER: given, FILES: _from_files(checkpoint), CLASS: _from_class(checkpoint)}
    settings, origins = {}, {}
    for name in given:
        for source, values in sources.items():
            if values.get(name) is not None:
                settings[name], origins[name] = values[name], source
                break
    config = PoolerConfig(**settings)
    tasks = TASKS["token_embed" if checkpoint.late_interaction else kind](checkpoint, config)
    if checkpoint.arch.joins:
        tasks = {name: replace(task, pictures=task.steps) for name, task in tasks.items()}
    if checkpoint.arch.patches:  # of pictures alone, a vector each
        pooled = {name: task for name, task in tasks.items() if task.pooled}
        tasks = {name: replace(task, pictures=task.steps) for name, task in pooled.items()}
    if checkpoint.arch.decoder and checkpoint.arch.decoder.apart:
        tasks = _apart(tasks)
    _check_used(checkpoint, tasks)
    active = default(tasks, checkpoint.architecture, config.task)
    if config.tok_pooling_type == "STEP":
        arch = checkpoint.arch
        check_step(config, arch.vocab, max(task.width(arch.dim) for task in tasks.values()))
    return Resolution(tasks, active, config, origins)


def _check_used(checkpoint, tasks: Mapping[str, Task]) -> None:
    """Refuse modules that no task computes with: results without them would look right."""
    pipeline = checkpoint.pipeline
    if pipeline is None:
        return
    used = {name for task in tasks.values() for way in task.paths for name in _names(way.steps)}
    chains = (*pipeline.chains, pipeline.sparse, *(way for _, way in pipeline.sparse_routes))
    left = sorted({name for steps in chains for name in _names(steps)} - used)
    if left:
        raise ValueError(
            f"modules.json: no task of {checkpoint.architecture} uses {', '.join(left)}; wanted "
            "a Pooling before or after it, or the settings of late interaction"
        )


def _names(steps: tuple) -> list[str]:
    return [step.name for step in steps if hasattr(step, "name")]


def _from_files(checkpoint) -> Mapping[str, Any]:
    pipeline = checkpoint.pipeline
    chains = pipeline.chains if pipeline else ()
    pools = [step for steps in chains for step in steps if isinstance(step, Pool)]
    if pipeline and checkpoint.uses_head and is_pooled(checkpoint.head_steps):
        return {"use_activation": pipeline.normalize} if checkpoint.head.task == "embed" else {}
    if not pools or (checkpoint.uses_head and checkpoint.head.task != "embed"):
        return {}
    return {
        "seq_pooling_type": sequence_pooling_name(pools[0].kinds),
        "use_activation": pipeline.normalize,
        "dimensions": pipeline.truncate_dim,
    }


def _from_class(checkpoint) -> Mapping[str, Any]:
    steps = checkpoint.head_steps if checkpoint.uses_head else ()
    pool = next((step for step in steps if isinstance(step, Pool)), Pool((checkpoint.pool,)))
    values = {
        "seq_pooling_type": LEARNED if _learned(pool) else sequence_pooling_name(pool.kinds),
        "tok_pooling_type": "ALL",
        "use_activation": True,
    }
    return values | dict(checkpoint.head.defaults if checkpoint.uses_head else {})


def _pools(checkpoint) -> bool:
    return checkpoint.pipeline is not None and checkpoint.pipeline.pools


def _learned(step) -> bool:
    """Whether a step pools by parameters, for which no plain pooling can stand."""
    return isinstance(step, Pool) and not POOLS.keys() >= set(step.kinds)


def _pooled(steps: tuple, config: PoolerConfig) -> tuple:
    assert config.seq_pooling_type  # at least the class has one
    if any(map(_learned, steps)):
        if config.seq_pooling_type != LEARNED:
            why = f"seq_pooling_type must be {LEARNED}: the model has parameters for its pooling"
            raise ValueError(f"{why}, found {config.seq_pooling_type}")
        return steps
    kinds = sequence_pooling(config.seq_pooling_type)
    return tuple(replace(step, kinds=kinds) if isinstance(step, Pool) else step for step in steps)


def _embedding(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    pipeline, bare = checkpoint.pipeline, (Pool((checkpoint.pool,)),)
    steps, routes = (pipeline.steps, pipeline.routes) if _pools(checkpoint) else (bare, ())

    projection = checkpoint.head_steps if checkpoint.uses_head else ()  # of each token
    if is_pooled(projection):
        return _two_towers(checkpoint, config)

    def chain(steps):
        steps = (*projection, *_pooled(steps, config))
        norm: tuple = ()
        if getattr(checkpoint.config, "matryoshka_layer_norm", False):
            # nomic-embed-text-v1.5's card normalizes the layer before it cuts.
            size = width(steps, checkpoint.arch.dim)
            norm = (Norm("matryoshka_norm", size, 1e-5, scale=False, bias=False),)
        return (*steps, *norm, Cut(), Normalize())

    routes = tuple((route, chain(way)) for route, way in routes)
    task = Task("embed", chain(steps) if steps else (), bool(config.use_activation), routes)
    beside = checkpoint.beside.items()
    own = {name: replace(other, activate=config.use_activation) for name, other in beside}
    return {"embed": task, "token_embed": task.tokenwise("token_embed")} | own


def _two_towers(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    """Texts and pictures in one space, each through a tower with a head of its own."""
    after = (*(checkpoint.pipeline.steps if checkpoint.pipeline else ()), Cut(), Normalize())
    text = (*_pooled(checkpoint.head_steps, config), *after)
    pictures = (*checkpoint.picture_steps, *after)
    task = Task("embed", text, config.use_activation is not False, pictures=pictures)
    tokens = task.tokenwise("token_embed")
    if own := checkpoint.token_steps:
        tokens = replace(tokens, steps=(*own, Cut(), Normalize()))
    return {"embed": task, "token_embed": tokens}


def _token_embedding(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    pipeline = checkpoint.pipeline
    own = pipeline.steps if pipeline else ()
    if any(isinstance(step, Pool) for step in own):
        raise ValueError("modules.json: wanted token vectors for late interaction, found a Pooling")
    steps = (*(checkpoint.head_steps if checkpoint.uses_head else ()), *own, Cut(), Normalize())
    return {"token_embed": Task("token_embed", steps, bool(config.use_activation))}


def _sparse(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    """SPLADE (arXiv 2107.05720): unless files say otherwise, log(1 + relu) of the words' maxima."""
    pipeline, usual = checkpoint.pipeline, (Pool(("max",)), Activate("log1p_relu"))
    most = pipeline and pipeline.max_active_dims

    def chain(after):
        return (*checkpoint.head_steps, *after, *([Largest(most)] if most else ()))

    if pipeline and pipeline.sparse_routes:
        # Queries may come from a table alone; XLA then removes the forward from their program.
        routes = tuple((route, chain(steps)) for route, steps in pipeline.sparse_routes)
        steps = chain(pipeline.sparse) if pipeline.sparse else ()
        task = Task("sparse", steps, routes=routes)
    else:
        task = Task("sparse", chain((pipeline and pipeline.sparse) or usual))
    if checkpoint.sparse_embeddings is not None:
        pool = PoolOthers(("max",), checkpoint.sparse_embeddings)
        steps = (*checkpoint.head_steps, pool, Activate("log1p_relu"))
        return {"embed": Task("embed", steps), "sparse": Task("sparse", steps)}
    return _embedding(checkpoint, config) | {"sparse": task}


def _logits(checkpoint, config: PoolerConfig) -> tuple:
    steps = _pooled(checkpoint.head_steps, config)
    if config.logit_mean is not None or config.logit_sigma is not None:
        steps += (Calibrate(config.logit_mean or 0.0, config.logit_sigma or 1.0),)
    labels = width(steps, checkpoint.arch.dim)
    saved = checkpoint.pipeline and checkpoint.pipeline.activation
    return (*steps, Activate(activation(checkpoint.config, labels, saved)))


def _classification(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    task = Task("classify", _logits(checkpoint, config), bool(config.use_activation))
    task = replace(task, unread=_unread(checkpoint, task.steps))
    return {"classify": task, "token_classify": task.tokenwise("token_classify")}


def _apart(tasks: dict[str, Task]) -> dict[str, Task]:
    """Of a decoder that reads documents' vectors: those of tokens, and scores of both."""
    tokens = Task("token_embed", (Cut(), Normalize()), activate=False)
    if "classify" not in tasks:
        return tasks
    steps = tuple(
        PoolDecoded(step.kinds) if isinstance(step, Pool) else step
        for step in tasks["classify"].steps
    )
    return {"classify": replace(tasks["classify"], steps=steps), "token_embed": tokens}


def _labels(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    """Labels of a call, in one prompt with the text: true or not by themselves, unless it says."""
    steps, rows = (*checkpoint.head_steps, Activate("sigmoid")), checkpoint.head.rows
    task = Task("classify", steps, bool(config.use_activation))
    return {"classify": replace(task, rows=rows(checkpoint.config))}


def _spans(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    """Spans of words, for labels of a call; raw, since the host picks what is likely."""
    task = Task("token_classify", checkpoint.head_steps, False)
    return {"token_classify": replace(task, rows=checkpoint.head.rows(checkpoint.config))}


def _unread(checkpoint, steps: tuple) -> int | None:
    """transformers classifies a decoder's text by the last token that is not padding."""
    last = any(step.kinds == ("lasttoken",) for step in steps if isinstance(step, Pool))
    own = checkpoint.architecture.endswith("ForSequenceClassification") and not checkpoint.choice
    if not (last and own and checkpoint.arch.causal):
        return None
    return getattr(checkpoint.config, "pad_token_id", None)


def _token_classification(checkpoint, config: PoolerConfig) -> dict[str, Task]:
    task = Task("token_classify", _logits(checkpoint, config), bool(config.use_activation))
    return {"token_classify": task.tokenwise("token_classify")}


TASKS = {
    "embed": _embedding,
    "token_embed": _token_embedding,
    "sparse": _sparse,
    "classify": _classification,
    "token_classify": _token_classification,
    "labels": _labels,
    "spans": _spans,
    "decide": lambda checkpoint, config: {"decide": Task("decide", checkpoint.head_steps, False)},
}


def activation(config, labels: int, saved: str | None = None) -> str:
    """The activation of a classifier: by problem_type, else what a CrossEncoder saved, else width.

    `saved` is that of its own file, which precedes the keys in config.json. Sigmoid for one label,
    softmax for several; a saved Sigmoid or Softmax follows the same rule.
    """
    by_width = "sigmoid" if labels < 2 else "softmax"
    by_problem = {
        "regression": "identity",
        "single_label_classification": by_width,
        "multi_label_classification": "sigmoid",
    }
    problem = getattr(config, "problem_type", None)
    if problem in by_problem:
        return by_problem[problem]
    saved = saved or (getattr(config, "sentence_transformers", None) or {}).get("activation_fn")
    saved = saved or getattr(config, "sbert_ce_default_activation_function", None)
    if saved is None:
        return by_width
    if not saved.startswith(TORCH):
        raise ValueError(
            f"activation function {saved!r}: loading of activation functions is restricted to "
            f"{TORCH}*"
        )
    name = saved.rpartition(".")[2]
    if name in ("Sigmoid", "Softmax"):
        return by_width
    if name not in TORCH_ACTIVATIONS:
        raise ValueError(f"unknown activation {saved!r}; known: {sorted(TORCH_ACTIVATIONS)}")
    return TORCH_ACTIVATIONS[name]
