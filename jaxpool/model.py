"""`Model`: arch + params + tasks + tokenizer, what `load` returns."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool import executables, quantize, scoring
from jaxpool.arch import Arch
from jaxpool.attention import choose as choose_kernel
from jaxpool.batch import Request
from jaxpool.compile import Executor, enable_cache
from jaxpool.distributed import start
from jaxpool.encode import encode
from jaxpool.engine import Engine, EngineOptions
from jaxpool.heads import Pool
from jaxpool.late_interaction import LateInteraction
from jaxpool.listwise import Listwise
from jaxpool.model_config import ModelConfig, model_config
from jaxpool.requests import PoolerConfig, as_pooler_config
from jaxpool.resolve import Resolution
from jaxpool.resolve import resolve as resolve_tasks
from jaxpool.score_template import ScoreTemplate, load_template
from jaxpool.sharding import make_mesh, put, tree_shardings
from jaxpool.task import Task, choose, several
from jaxpool.tokenize import NO_LIMIT, Tokenizer

ALLOW_LONG = "JAXPOOL_ALLOW_LONG_MAX_MODEL_LEN"
DTYPES = {
    "float32": jnp.float32,
    "float": jnp.float32,
    "bfloat16": jnp.bfloat16,
    "float16": jnp.float16,
    "half": jnp.float16,
}


@dataclass(frozen=True)
class Model:
    """A loaded checkpoint. `arch` and `params` are all that `jaxpool.forward` needs."""

    name: str
    arch: Arch
    params: dict
    resolution: Resolution
    tokenizer: Tokenizer
    max_length: int
    mesh: jax.sharding.Mesh
    checkpoint: Any
    score_template: ScoreTemplate | None = None
    options: EngineOptions = EngineOptions()

    @cached_property
    def engine(self) -> Engine:
        """What runs this model: its plans, shapes and executables."""
        return Engine(self.executor, self.max_length, self.options)

    @cached_property
    def executor(self) -> Executor:
        """The compiled programs of this model."""
        expands = self.late_interaction is not None and self.late_interaction.unseen
        return Executor(self.params, self.arch, self.mesh, self.shares_prefixes or expands)

    @property
    def late_interaction(self) -> LateInteraction | None:
        """How queries and documents of late interaction are made, where the files say it."""
        return self.checkpoint.late_interaction

    @property
    def listwise(self) -> Listwise | None:
        """How documents are scored in one prompt, by models that do."""
        return self.checkpoint.listwise

    @property
    def shares_prefixes(self) -> bool:
        """Whether texts that begin with the same tokens may share them: last token of a decoder.

        Not where the rotation of a token depends on the length of its text.
        """
        task = self.tasks.get("classify")
        last = task is not None and Pool(("lasttoken",)) in task.steps
        fixed = all(table.scaling not in ("dynamic", "longrope") for table in self.arch.rotary)
        return self.arch.causal and last and fixed

    @property
    def tasks(self) -> Mapping[str, Task]:
        """What this model can do, by name."""
        return self.resolution.tasks

    @property
    def pooling_task(self) -> str:
        """The task served where a call names none."""
        return self.resolution.pooling_task

    @property
    def pooler_config(self) -> PoolerConfig:
        """How this model pools, every setting resolved."""
        return self.resolution.pooler_config

    @property
    def prompts(self) -> Mapping[str, str]:
        """Named instructions of config_sentence_transformers.json."""
        return self.checkpoint.pipeline.prompts if self.checkpoint.pipeline else {}

    @property
    def default_prompt(self) -> str | None:
        """The name of the prompt that sentence-transformers applies unasked."""
        return self.checkpoint.pipeline.default_prompt if self.checkpoint.pipeline else None

    @property
    def include_prompt(self) -> bool:
        """Whether the tokens of a prompt take part in pooling."""
        return not self.checkpoint.pipeline or self.checkpoint.pipeline.include_prompt

    @property
    def adapters(self) -> tuple[str, ...]:
        """The low-rank adapters that a request may choose as its `task`."""
        return self.checkpoint.adapters

    @cached_property
    def model_config(self) -> ModelConfig:
        """The facts of this model under vLLM's names."""
        return model_config(self)

    def task(self, name: str | None = None, input_type: str | None = None) -> Task:
        """A task by name (the default one if not given), on the route of an input type.

        A PoolerConfig that names a task allows no other.
        """
        only = self.pooling_task if self.pooler_config.task else None
        return choose(self.tasks, name or self.pooling_task, only).route(input_type)

    def select(
        self, name: str | Sequence[str], input_type: str | None = None
    ) -> Task | tuple[Task, ...]:
        """A task by name, or the tuple of them that "embed&sparse" or a sequence asks for."""
        if (names := several(name)) is None:
            return self.task(name, input_type)
        return tuple(self.task(one, input_type) for one in names)

    def encode(self, texts, **options) -> np.ndarray:
        """Vectors as sentence-transformers' `encode` gives them (see `jaxpool.encode`)."""
        return encode(self, texts, **options)

    def run(self, task: Task, requests: Sequence[Request]) -> Iterator[tuple[int, np.ndarray]]:
        """Compute a task; yields `(index of the request, result)` as batches finish.

        Requests share rows and batches as it suits the device; their results do not depend on it.
        """
        return self.engine.run(task, requests)

    def prepare(self) -> None:
        """Load the executables and do the warm-up that the options ask for."""
        tasks = list(self.tasks.values())
        if self.options.compiled:
            executables.load(self.executor, Path(self.options.compiled), self.engine.keys(tasks))
        if wanted := self.options.warmup:
            named = tasks if wanted is True else [self.select(name) for name in wanted]
            self.engine.warmup(named)
        if wanted or self.options.forbid_compiles:
            scoring.compile_programs(self)
        self.executor.frozen = self.options.forbid_compiles

    def export(self, folder: str | Path, params: dict | None = None) -> Path:
        """Write `params` (the model's own if not given) as a folder Hugging Face loads."""
        params = self.params if params is None else params
        if quantize.is_quantized(params):
            raise ValueError(f"{self.name} is quantized; load it without quantization to export it")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint.write(params, folder)
        return folder


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
    **engine: Any,
) -> Model:
    """Load a checkpoint: a folder, a Hub id, or `pkg://package/path`.

    runner, convert: as vLLM's (see `converters.architectures`); convert "embed", "classify" or
    "reward" names what to make of an architecture that leaves it open. chat_template (text, file
    or name of a shipped one) replaces the score template found for a reranker.
    lora_path: a PEFT adapter (folder or Hub id) to merge; one in the model's folder is merged
    without asking, and a folder of an adapter alone loads its base.
    dtype "auto" is float32 on CPU and bfloat16 on TPU and GPU. Parameters go leaf by leaf onto
    the mesh of `data_parallel_size` x `tensor_parallel_size` devices. `distributed` makes this
    process one of several (see `jaxpool.distributed`). `engine`: the fields of
    `jaxpool.engine.EngineOptions`.
    """
    from converters.checkpoint import open_checkpoint
    from converters.files import resolve
    from converters.rerankers import find_template

    start(distributed)
    enable_cache()
    options = EngineOptions(**engine)
    folder = resolve(model, revision)
    settings = as_pooler_config(pooler_config)
    adapter = resolve(lora_path) if lora_path else None
    answers = settings.step_answers
    checkpoint = open_checkpoint(folder, hf_overrides, runner, convert, adapter, answers, model)
    if answers and checkpoint.architecture.endswith("ForCausalLM"):
        # The head has these columns alone.
        settings = replace(settings, pooling_type=None, returned_token_ids=None)
    data = 1 if data_parallel_size is None and jax.process_count() == 1 else data_parallel_size
    mesh = make_mesh(tensor_parallel_size, data)
    kind = _dtype(dtype)
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
        name=model,
        arch=arch,
        params=quantize.quantize(params, options.quantization),
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


def _dtype(name: str) -> jnp.dtype:
    if name == "auto":
        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}")
    return jnp.dtype(DTYPES[name])


def _activations(kind: jnp.dtype) -> str:
    # CPUs gain from bfloat16 operands alone: activations stay float32 between products.
    return "float32" if jax.default_backend() == "cpu" else kind.name


def _read(checkpoint, dtype, shardings) -> dict:
    from converters.orbax import is_orbax, restore
    from jaxpool.params import flatten

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
