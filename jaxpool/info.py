"""What `jaxpool info` prints: facts of a checkpoint and their origins, without its weights."""

from typing import NamedTuple

import jax

from jaxpool.engine.bucketing import bucketing
from jaxpool.engine.planner import bucket_lengths
from jaxpool.fingerprint import fingerprint
from jaxpool.heads.steps import Pool
from jaxpool.loading import max_length, open_tokenizer, parameter_dtype
from jaxpool.nn import kernels, params
from jaxpool.tasks.pooling_params import PoolerConfig
from jaxpool.tasks.resolve import resolve as resolve_tasks


class Fact(NamedTuple):
    """One line: what, its value, the file or rule that says so."""

    name: str
    value: str
    origin: str


def describe(model: str, revision: str | None = None) -> list[Fact]:
    """The facts of a model, from its configuration files and the headers of its weight files."""
    from converters.checkpoint import open_checkpoint
    from converters.files.locate import resolve

    folder = resolve(model, revision)
    checkpoint = open_checkpoint(folder, name=model)
    resolution = resolve_tasks(checkpoint, PoolerConfig())
    tokenizer = open_tokenizer(checkpoint, resolution)
    return [
        Fact("folder", str(folder), model),
        Fact("fingerprint", *_fingerprint(checkpoint, resolution, tokenizer.ended)),
        *_architecture(checkpoint),
        *_lengths(checkpoint, tokenizer),
        *_tasks(resolution),
        *_scoring(checkpoint, resolution.tasks),
        *_prompts(checkpoint.pipeline),
    ]


def _fingerprint(checkpoint, resolution, ended: str | None) -> tuple[str, str]:
    """The fingerprint of a load with default options."""
    dtype = parameter_dtype("auto").name
    space = fingerprint(checkpoint, resolution, dtype, ended=ended)
    return space, f"files, dtype {dtype}"


def _attention(arch) -> str:
    """The kernels of long and short rows, in the dtype "auto"."""
    platform = kernels.platform_of(jax.devices()[0])
    arch = arch.replace(dtype=parameter_dtype("auto").name)
    arch = arch.replace(kernel=kernels.choose(platform, arch))
    buckets = bucket_lengths(arch.max_length, bucketing().steps)
    names = dict.fromkeys(kernels.backend(arch, length) for length in buckets)
    return f"{arch.kernel} ({', '.join(names)})"


def _architecture(checkpoint) -> list[Fact]:
    switches = checkpoint.arch.switches().items()
    size = params.count(checkpoint.leaves)
    return [
        Fact("architecture", checkpoint.architecture, "config.json"),
        Fact("parameters", f"{size:,} ({checkpoint.dtype()})", "weight files"),
        Fact("attention", _attention(checkpoint.arch), "this platform"),
        Fact("switches", ", ".join(f"{k}={v}" for k, v in switches), "config.json"),
    ]


def _lengths(checkpoint, tokenizer) -> list[Fact]:
    pipeline = checkpoint.pipeline
    length = max_length(checkpoint, tokenizer, None)
    origins = {
        (pipeline.max_length if pipeline else None): "sentence-transformers files",
        checkpoint.arch.max_length: "config.json",
        tokenizer.max_length: "tokenizer_config.json",
    }
    ended = tokenizer.ended and Fact("end of text", f"{tokenizer.ended!r} added", "add_eos_token")
    reach = Fact("max length", f"{length:,} tokens", origins.get(length, "default"))
    return [reach, *([ended] if ended else ())]


def _tasks(resolution) -> list[Fact]:
    facts = [Fact("tasks", ", ".join(resolution.tasks), "architecture and files")]
    for task in resolution.tasks.values():
        rows = () if task.rows is None else (task.rows,)
        chain = " -> ".join(_step(step) for step in (*task.steps, *rows))
        facts.append(Fact(f"  {task.name}", chain, ""))
    config, defaults = resolution.pooler_config, PoolerConfig()
    names = [n for n in resolution.origins if getattr(config, n) != getattr(defaults, n)]
    return facts + [Fact(n, str(getattr(config, n)), resolution.origins[n]) for n in names]


def _scoring(checkpoint, tasks) -> list[Fact]:
    from converters.heads.rerankers import find_template

    if "classify" not in tasks and not checkpoint.listwise:
        return []
    choice, found = checkpoint.choice, find_template(checkpoint)
    return [
        *([Fact("answers", choice.words, choice.origin)] if choice else ()),
        *([Fact("score template", found.name, found.origin)] if found else ()),
    ]


def _step(step) -> str:
    name = type(step).__name__
    if isinstance(step, Pool):
        return f"{name}({'+'.join(step.kinds)})"
    inner = getattr(step, "activation", None) or getattr(step, "kind", None)
    return f"{name}({inner})" if inner else name


def _prompts(pipeline) -> list[Fact]:
    prompts = pipeline.prompts if pipeline else {}
    origin = "config_sentence_transformers.json"
    facts = [Fact(f"prompt {name!r}", repr(text), origin) for name, text in prompts.items()]
    default = pipeline and pipeline.default_prompt
    return facts + ([Fact("default prompt", repr(default), origin)] if default else [])
