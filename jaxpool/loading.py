"""From the name of a checkpoint to a `Model` on its devices."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxpool.engine import serialized
from jaxpool.engine.distributed import start
from jaxpool.engine.engine import EngineOptions
from jaxpool.engine.executor import cache_folder, enable_cache
from jaxpool.engine.sharding import make_mesh, put, tree_shardings
from jaxpool.model import Model
from jaxpool.nn import quantization
from jaxpool.nn.attention import choose as choose_kernel
from jaxpool.scoring.template import load_template
from jaxpool.tasks.pooling_params import PoolerConfig, as_pooler_config
from jaxpool.tasks.resolve import resolve as resolve_tasks
from jaxpool.text.tokenizer import NO_LIMIT, Tokenizer

ALLOW_LONG = "JAXPOOL_ALLOW_LONG_MAX_MODEL_LEN"
DTYPES = {
    "float32": jnp.float32,
    "float": jnp.float32,
    "bfloat16": jnp.bfloat16,
    "float16": jnp.float16,
    "half": jnp.float16,
}


def load(
    model: str,
    *,
    runner: str = "auto",
    convert: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    max_model_len: int | None = None,
    hf_overrides: Mapping | Callable | None = None,
    pooler_config: PoolerConfig | Mapping | None = None,
    chat_template: str | None = None,
    lora_path: str | None = None,
    tensor_parallel_size: int = 1,
    data_parallel_size: int | None = None,
    distributed: bool | Mapping[str, Any] = False,
    served_model_name: str | None = None,
    **engine: Any,
) -> Model:
    """Load a checkpoint: a folder, a Hub id, or `pkg://package/path`.

    runner, convert: as vLLM's (see `converters.architectures`); convert "embed", "classify" or
    "reward" names what to make of an architecture that leaves it open. chat_template (text, file
    or name of a shipped one) replaces the score template found for a reranker.
    lora_path: a PEFT adapter (folder or Hub id) to merge; one in the model's folder is merged
    without asking, and a folder of an adapter alone loads its base.
    dtype "auto" is float32 on CPU and bfloat16 on TPU and GPU; float32 products are exact on all,
    unless `jax_default_matmul_precision` says otherwise. Parameters go leaf by leaf onto
    the mesh of `data_parallel_size` x `tensor_parallel_size` devices. `distributed` makes this
    process one of several (see `jaxpool.engine.distributed`). served_model_name: what errors and
    `model_config` call the model, if not `model`. `engine`: the fields of
    `jaxpool.engine.engine.EngineOptions`.
    """
    from converters.checkpoint import open_checkpoint
    from converters.files.locate import resolve
    from converters.heads.rerankers import find_template

    start(distributed)
    enable_cache()
    options = EngineOptions(**engine)
    folder = resolve(model, revision)
    settings = as_pooler_config(pooler_config)
    adapter = resolve(lora_path) if lora_path else None
    answers = settings.step_answers
    store = _store(options)
    checkpoint = open_checkpoint(
        folder, hf_overrides, runner, convert, adapter, answers, model, store
    )
    if answers and checkpoint.architecture.endswith("ForCausalLM"):
        # The head has these columns alone.
        settings = replace(settings, pooling_type=None, returned_token_ids=None)
    data = 1 if data_parallel_size is None and jax.process_count() == 1 else data_parallel_size
    mesh = make_mesh(tensor_parallel_size, data)
    kind = parameter_dtype(dtype)
    arch = checkpoint.arch.replace(dtype=_activations(kind))
    arch = arch.replace(kernel=choose_kernel(mesh.devices.flat[0].platform, arch))
    shardings = tree_shardings(checkpoint.leaves, mesh)
    pipeline = checkpoint.pipeline
    lower_case = bool(pipeline and pipeline.lower_case)
    tokenizer = Tokenizer(checkpoint.tokenizer_folder, lower_case, checkpoint.family.special_tokens)
    if checkpoint.late_interaction:
        checkpoint.late_interaction.register(tokenizer)
    resolution = resolve_tasks(checkpoint, settings)
    found = find_template(checkpoint)
    template = load_template(chat_template) if chat_template else found and found.template
    if template and ("classify" in resolution.tasks or checkpoint.listwise):
        template.render(tokenizer.transformers, [("", "")], {})  # an error shows here, not later
    params = _read(checkpoint, kind, shardings)
    loaded = Model(
        name=served_model_name or model,
        arch=arch,
        params=quantization.quantize(params, options.quantization),
        resolution=resolution,
        tokenizer=tokenizer,
        max_length=max_length(checkpoint, tokenizer, max_model_len),
        mesh=mesh,
        checkpoint=checkpoint,
        score_template=template,
        options=options,
    )
    loaded.prepare()
    return loaded


def _store(options: EngineOptions) -> Path | None:
    """Where configurations are kept: beside the executables, or in the cache."""
    if not options.compiled:
        return cache_folder()
    serialized.manifest(Path(options.compiled))  # an error shows before weights are read
    return Path(options.compiled)


def parameter_dtype(name: str) -> jnp.dtype:
    """The dtype of parameters by its name; "auto" is that of the platform."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}")
    return jnp.dtype(DTYPES[name])


def _activations(kind: jnp.dtype) -> str:
    # CPUs gain from bfloat16 operands alone: activations stay float32 between products.
    return "float32" if jax.default_backend() == "cpu" else kind.name


def _read(checkpoint, dtype, shardings) -> dict:
    from converters.files.orbax import is_orbax, restore
    from jaxpool.nn.params import flatten

    if is_orbax(checkpoint.folder):
        return restore(checkpoint.folder, checkpoint.leaves, dtype, shardings)
    places = flatten(shardings)
    return checkpoint.read(dtype, lambda path, array: put(array, places[path]))


def max_length(checkpoint, tokenizer: Tokenizer, asked: int | None) -> int:
    """The most tokens of a request: `asked`, within what the checkpoint's files allow."""
    arch, pipeline = checkpoint.arch, checkpoint.pipeline
    derived = min(arch.max_length, tokenizer.max_length)
    if pipeline and pipeline.max_length:
        derived = pipeline.max_length
    if arch.positions:
        derived = min(derived, arch.max_length)  # the table of positions ends there
    derived = 2048 if derived >= NO_LIMIT else derived
    if asked is None:
        return derived
    if asked < 1:
        raise ValueError(f"max_model_len must be at least 1, got {asked}")
    if asked > derived and (arch.positions or os.environ.get(ALLOW_LONG) != "1"):
        way_out = "" if arch.positions else f" To allow it, set the env var {ALLOW_LONG}=1."
        raise ValueError(
            f"User-specified max_model_len ({asked}) is greater than the derived max_model_len "
            f"({derived} by the checkpoint's files).{way_out}"
        )
    return asked
