"""From the name of a checkpoint to a `Model` on its devices."""

import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxpool.engine import serialized
from jaxpool.engine.cache import enable_cache
from jaxpool.engine.distributed import start
from jaxpool.engine.engine import EngineOptions
from jaxpool.engine.folders import cache_folder
from jaxpool.engine.sharding import make_mesh, put, tree_shardings
from jaxpool.heads.steps import Pool
from jaxpool.images.media import MediaOptions
from jaxpool.loras import with_slots
from jaxpool.model import Model
from jaxpool.nn import kernels, quantization
from jaxpool.nn.arch import Arch
from jaxpool.scoring.template import ScoreTemplate, load_template
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
    add_eos_token: bool | None = None,
    default_prompt_name: str | None = None,
    served_model_name: str | None = None,
    **options: Any,
) -> Model:
    """Load a checkpoint: a folder, a Hub id, or `pkg://package/path`.

    runner, convert: as vLLM's (see `converters.architectures`); convert "embed", "classify",
    "reward" or "decide" names what to make of an architecture that leaves it open. dtype: "auto" is
    float32 on CPU and bfloat16 on TPU and GPU; float32 products are exact on all, unless
    `jax_default_matmul_precision` says otherwise. chat_template (text, file or name of a shipped
    one) replaces the score template found for a reranker. lora_path: a PEFT adapter (folder or Hub
    id) to merge; one in the model's folder is merged without asking, and a folder of an adapter
    alone loads its base. add_eos_token: end each text with that token (None: as the files say).
    default_prompt_name: the prompt of texts without one. options: of the engine, and of media.
    """
    start(EngineOptions(**_options(options)[1]).distributed)
    enable_cache()
    asked = (runner, convert, revision, hf_overrides, pooler_config, lora_path)
    text = (max_model_len, chat_template, add_eos_token, default_prompt_name)
    made = _described(model, served_model_name, asked, text, options)
    loaded = _on_devices(made, dtype)
    loaded.prepare(_compiled(made.options))
    return loaded


def describe(
    model: str,
    *,
    runner: str = "auto",
    convert: str = "auto",
    revision: str | None = None,
    max_model_len: int | None = None,
    hf_overrides: Mapping | Callable | None = None,
    pooler_config: PoolerConfig | Mapping | None = None,
    chat_template: str | None = None,
    lora_path: str | None = None,
    add_eos_token: bool | None = None,
    default_prompt_name: str | None = None,
    served_model_name: str | None = None,
    **options: Any,
) -> Model:
    """A checkpoint without its weights, by the arguments of `load`, for a process without a device.

    It knows its tasks and prepares requests; it has neither `params` nor a `mesh` to run them.
    """
    asked = (runner, convert, revision, hf_overrides, pooler_config, lora_path)
    text = (max_model_len, chat_template, add_eos_token, default_prompt_name)
    return _described(model, served_model_name, asked, text, options)


def _described(model: str, name: str | None, asked: tuple, text: tuple, options: dict) -> Model:
    from converters.heads.chat import conversation

    media, engine = _options(options)
    max_model_len, chat_template, add_eos_token, default_prompt_name = text
    checkpoint, settings = _open(model, asked, _compiled(EngineOptions(**engine)))
    resolution = resolve_tasks(checkpoint, settings)
    tokenizer = open_tokenizer(checkpoint, resolution, add_eos_token)
    limit = max_length(checkpoint, tokenizer, max_model_len)
    template = _template(checkpoint, chat_template)
    if template and ("classify" in resolution.tasks or checkpoint.listwise):
        template.render(tokenizer.transformers, [("", "")], {})  # an error shows here, not later
    conversation(checkpoint, tokenizer)  # and so does what a saved template cannot do
    return Model(
        name or model,
        checkpoint.arch,
        {},
        resolution,
        tokenizer,
        limit,
        None,
        checkpoint,
        template,
        EngineOptions(**engine),
        default_prompt_name,
        MediaOptions(**media),
    )


def _compiled(options: EngineOptions) -> serialized.Compiled | None:
    return serialized.find(options.compiled) if options.compiled else None


def _options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of pictures, and those of the engine."""
    names = {field.name for field in fields(MediaOptions)}
    media = {name: value for name, value in given.items() if name in names}
    return media, {name: value for name, value in given.items() if name not in names}


def _open(model: str, asked: tuple, compiled: serialized.Compiled | None) -> tuple:
    """The checkpoint of a model's name, of whose weights none are read, and how it pools."""
    from converters.checkpoint import open_checkpoint
    from converters.files.locate import resolve

    runner, convert, revision, overrides, pooler_config, lora_path = asked
    settings = as_pooler_config(pooler_config)
    folder = resolve(model, revision)
    adapter = resolve(lora_path) if lora_path else None
    store = compiled.folder if compiled else cache_folder()
    answers = settings.step_answers
    found = open_checkpoint(folder, overrides, runner, convert, adapter, answers, model, store)
    if answers and found.architecture.endswith("ForCausalLM"):
        # The head computes only these columns.
        settings = replace(settings, pooling_type=None, returned_token_ids=None)
    return found, settings


def _on_devices(made: Model, dtype: str) -> Model:
    """A described model with its parameters, which are read after all checks."""
    checkpoint, options = made.checkpoint, made.options
    mesh, kind = _mesh(options), parameter_dtype(dtype)
    arch = _on_device(checkpoint.arch, kind, kernels.platform_of(mesh.devices.flat[0]))
    params = _read(checkpoint, kind, tree_shardings(checkpoint.leaves, mesh))
    params = quantization.quantize(params, options.quantization)
    if options.enable_lora:
        arch, params = with_slots(arch, params, mesh, options, made.tasks)
    return replace(made, arch=arch, params=params, mesh=mesh)


def open_tokenizer(checkpoint, resolution, add_eos_token: bool | None = None) -> Tokenizer:
    """The tokenizer of a checkpoint, as its tasks need it."""
    if checkpoint.arch.patches:
        return Tokenizer.of_nothing(checkpoint.folder)
    bare, lower = not checkpoint.family.special_tokens, checkpoint.lower_case
    tokenizer = Tokenizer(checkpoint.tokenizer_folder, lower, bare, checkpoint.store)
    if checkpoint.late_interaction:
        checkpoint.late_interaction.register(tokenizer)
    tasks = resolution.tasks[resolution.pooling_task].paths
    pools = [step.kinds for task in tasks for step in task.steps if isinstance(step, Pool)]
    if add_eos_token is None and checkpoint.family.ended:
        add_eos_token = True
    elif add_eos_token is None and ("lasttoken",) in pools:
        # transformers 5 leaves this out where there is a tokenizer.json; e5-mistral pools it.
        known = tokenizer.special("eos_token") is not None
        add_eos_token = known and bool(tokenizer.config.get("add_eos_token"))
    if add_eos_token:
        tokenizer.end_texts()
    return tokenizer


def _template(checkpoint, given: str | None) -> ScoreTemplate | None:
    """The score template that is given, or that of the checkpoint."""
    from converters.heads.rerankers import find_template

    found = find_template(checkpoint)
    return load_template(given) if given else found and found.template


def _mesh(options: EngineOptions) -> jax.sharding.Mesh:
    data = options.data_parallel_size
    alone = data is None and jax.process_count() == 1
    return make_mesh(options.tensor_parallel_size, 1 if alone else data)


def parameter_dtype(name: str) -> jnp.dtype:
    """The dtype of parameters by its name; "auto" is that of the platform."""
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}")
    return jnp.dtype(DTYPES[name])


def _activations(kind: jnp.dtype) -> str:
    # On CPU only bfloat16 operands of products pay: activations in between stay float32.
    return "float32" if jax.default_backend() == "cpu" else kind.name


def _on_device(arch: Arch, kind: jnp.dtype, platform: str) -> Arch:
    """An architecture, and what stands beside it, with the dtype and the kernels of a device."""
    arch = arch.replace(dtype=_activations(kind))
    beside = {"vision": arch.vision, "decoder": arch.decoder}
    placed = {name: part and _on_device(part, kind, platform) for name, part in beside.items()}
    return arch.replace(kernel=kernels.choose(platform, arch), **placed)


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
