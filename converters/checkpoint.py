"""A Hugging Face checkpoint folder as (Arch, heads, parameters), and back."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converters import lora, rows
from converters.architectures import architecture, check_options, choose_head, sparse_embeddings
from converters.configuration import Config
from converters.family import Family, Head
from converters.files.folder import TOKENIZER, copy_companions, digests, update_json
from converters.files.tensors import Manifest, Source, open_tensors, save_tensors
from converters.heads import answers
from converters.heads.beside import Beside, read_beside
from converters.heads.late_interaction import read_late_interaction
from converters.heads.rerankers import Reranker, find_apart, find_listwise, find_published
from converters.heads.sentence_transformers import Pipeline
from converters.images import find_processor, processor_of
from converters.report import CheckpointError, ShapeError, about_its_folder
from converters.sources import Files, open_files
from converters.tables import base_table, head_of, output_of
from converters.unused import find_unused, saved_unused
from jaxpool.heads.steps import abstract as abstract_heads
from jaxpool.images.processor import Processor
from jaxpool.nn import params
from jaxpool.nn.arch import Arch
from jaxpool.scoring.apart import Apart
from jaxpool.scoring.listwise import Listwise
from jaxpool.tasks.task import Task
from jaxpool.text.late_interaction import LateInteraction

PROCESSORS = 16  # of a checkpoint that are kept, by what is asked of them


class Part(NamedTuple):
    """Some of the parameters, and where in the checkpoint they lie: a folder or a .pt file."""

    path: str
    layouts: list[rows.Layout]
    source: Source
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder as its files describe it, before any tensor is read.

    leaves: the abstract parameter tree; head: the task head of the architecture, or None;
    uses_head: whether the tasks come from it, or the model embeds; beside: the tasks of heads in
    files of their own; base: the folder of config.json and the transformer's weights, another one
    for a folder of an adapter alone; reranker: the published one that this is; choice: the tokens
    that its classifier is made of; store: a folder that keeps what transformers says of the files;
    picture_steps: what follows the vision tower; processor: how its pictures become patches; name:
    what the model was asked for as; token_steps: what gives the vectors of tokens, where these have
    steps of their own.
    """

    folder: Path
    base: Path
    config: Config
    family: Family
    arch: Arch
    head: Head | None
    uses_head: bool
    head_steps: tuple
    pipeline: Pipeline | None
    beside: Mapping[str, Task]
    leaves: dict
    parts: list[Part]
    reranker: Reranker | None = None
    choice: answers.Choice | None = None
    store: Path | None = None
    picture_steps: tuple = ()
    processor: Processor | None = None
    name: str = ""
    token_steps: tuple = ()

    @property
    def pool(self) -> str:
        """The pooling of an embedding model without sentence-transformers files."""
        pool = self.family.pool
        return pool(self.config) if callable(pool) else pool

    @property
    def lower_case(self) -> bool:
        """Whether texts are lower-cased."""
        return self.family.lower_case or bool(self.pipeline and self.pipeline.lower_case)

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies: an adapter may bring its own."""
        own = self.folder / (self.pipeline.transformer if self.pipeline else "")
        return own if (own / "tokenizer_config.json").is_file() else self.base

    @cached_property
    def late_interaction(self) -> LateInteraction | None:
        """The settings of late interaction, where the files have any."""
        return read_late_interaction(self.folder, self.config)

    @property
    def listwise(self) -> Listwise | None:
        """How a listwise reranker is asked."""
        return find_listwise(self)

    @property
    def apart(self) -> Apart | None:
        """How documents are read by themselves, for models whose prompts read their vectors."""
        return find_apart(self)

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters within the checkpoint."""
        return tuple(self.config.lora_adaptations) if self.arch.adapters else ()

    @property
    def sparse_embeddings(self) -> tuple[int, ...] | None:
        """See `converters.architectures.sparse_embeddings`."""
        return sparse_embeddings(self.config)

    @property
    def architecture(self) -> str:
        """The architecture's name in config.json."""
        return architecture(self.config)

    def processor_for(self, asked: Mapping[str, Any]) -> Processor | None:
        """The processor with some of its fields changed (see `converters.images.CHANGEABLE`).

        Calls that ask for the same get the same one: what is kept of pictures goes by it.
        """
        asked = {**(self.pipeline.images if self.pipeline else {}), **asked}
        if not (self.processor and asked):
            return self.processor
        # A value that JSON does not know becomes a text, which no field takes.
        return self._processors(json.dumps(asked, sort_keys=True, default=str))

    @cached_property
    def _processors(self) -> Callable[[str], Processor]:
        """The processors with some fields, as JSON, changed; the last `PROCESSORS` are kept."""

        def read(asked: str) -> Processor:
            return processor_of(self.family, self.base, self.arch, json.loads(asked), self.name)

        return lru_cache(PROCESSORS)(read)

    def read(self, dtype, put: Callable[[str, np.ndarray], object]) -> dict:
        """The parameter tree; `put(path, array)` places each leaf as soon as it is read.

        dtype None keeps each tensor's own.
        """
        tree: dict = {}
        try:
            for part in self.parts:
                tree |= rows.read(part.layouts, part.source, dtype, put, part.ignored)
        except ShapeError as error:
            facts = self.config.to_dict().items()
            fields = {k: v for k, v in facts if isinstance(v, int) and v in error.sizes}
            raise CheckpointError(f"{error}; fields of that size: {fields}") from error
        return params.unflatten(tree)

    def dtype(self) -> str:
        """The dtype of the first parameter on disk, as safetensors spells it."""
        part = self.parts[0]
        return part.source.dtype(next(name for _, name in part.layouts[0].names()))

    def identity(self) -> dict[str, dict]:
        """What identifies the contents: samples of the tensors, digests of the tokenizer files."""
        tensors = {part.path: part.source.describe() for part in self.parts}
        return {"tensors": tensors, "tokenizer": digests(self.tokenizer_folder, TOKENIZER)}

    def copy_companions(self, folder: Path) -> None:
        """Copy everything but weights and the adapter, which is merged."""
        base = folder / (self.pipeline.transformer if self.pipeline else "")
        copy_companions(self.base, base)
        copy_companions(self.folder, folder)
        if self.family.adapter:
            update_json(base / "config.json", {lora.MERGED: self.family.adapter(self.config)})
        if getattr(self.config, "quantization_config", None):
            update_json(base / "config.json", {"quantization_config": None})
        if self.choice and self.reranker:
            # A published reranker is recognized by its name, and a copy may have another one.
            names = ("method", "classifier_from_token")
            update_json(base / "config.json", {n: getattr(self.config, n, None) for n in names})

    def write(self, tree: dict, folder: Path) -> None:
        """Export parameters as a folder that Hugging Face loads, with the tensors not in use."""
        self.copy_companions(folder)
        flat = params.flatten(tree)
        for part in self.parts:
            written = rows.write(part.layouts, flat)
            rest = self.unused() if part is self.parts[0] else ()
            save_tensors(chain(written, rest), folder / part.path)

    def unused(self) -> Iterator[tuple[str, np.ndarray]]:
        """The tensors that no task of this model reads."""
        layouts, source = self.parts[0][1:3]
        if isinstance(source, Manifest):
            return saved_unused(self.folder)
        return find_unused(layouts, source, *output_of(self.family, source, self.config))


@about_its_folder
def open_checkpoint(
    folder: Path,
    overrides: Mapping | Callable | None = None,
    runner: str = "auto",
    convert: str = "auto",
    adapter: Path | None = None,
    returned: Sequence[int] = (),
    name: str = "",
    store: Path | None = None,
) -> Checkpoint:
    """Read the configuration files of a folder and match its weight files to name tables.

    A LoRA `adapter`, or one that lies in the folder, is merged. `returned`: ids of the tokens whose
    logits are the output of a causal language model (see `answers`). `name`: what the model was
    asked for as, the folder if not given. `store`: a folder that keeps configurations.
    """
    name = name or str(folder)
    files = open_files(folder, overrides, adapter, store, name)
    family, config, pipeline = files.family, files.config, files.pipeline
    arch = family.arch(config)
    check_options(runner, convert, architecture(config), bool(pipeline and pipeline.pools))
    chosen = choose_head(family, config, convert, pipeline)
    reranker = find_published(name, config)
    choice = answers.choose(config, files.base, pipeline, reranker, convert, returned)
    if choice:
        chosen = (choice.head, True)
        source = files.source
        source = answers.add(source, choice.ids, *output_of(family, source, config))
        files = files._replace(source=source)
    head, uses_head, table, steps = head_of(family, config, arch, chosen, files.source)
    picture_steps, token_steps = head.others(config, arch) if head and steps else ((), ())
    processor, arch = find_processor(family, files.base, arch, name)
    beside = Beside({}, {}) if uses_head else read_beside(folder, config, arch)
    leaves, parts = _match(files, arch, table, [steps, picture_steps, token_steps], beside)
    return Checkpoint(
        *(folder, files.base, config, family, arch, head, uses_head, steps, pipeline),
        *(beside.tasks, leaves, parts, reranker, choice, store, picture_steps, processor, name),
        token_steps,
    )


def _match(
    files: Files, arch: Arch, head_table: list[rows.Row], heads: list[tuple], beside: Beside
) -> tuple[dict, list[Part]]:
    """The parameter tree of a model with all its heads, and the tensors that fill it."""
    folder, inside, _, family, config, pipeline, source = files
    leaves = params.flatten(params.abstract(arch) | {"heads": abstract_heads(heads)})
    table = base_table(family, source, config) + head_table
    layouts = rows.layouts(table, leaves, arch.sizes(), arch.numbers())
    chains = [task.steps for task in beside.tasks.values()]
    if pipeline:
        chains += [*pipeline.chains, *(steps for _, steps in pipeline.sparse_routes)]
    modules = params.flatten({"heads": abstract_heads(chains)})
    tables = beside.tables | (pipeline.folders if pipeline else {})
    return params.unflatten(leaves | modules), [
        Part(inside, layouts, source, (*family.ignored, *family.unread(config))),
        *(_module(folder, path, names, modules) for path, names in tables.items()),
    ]


def _module(folder: Path, path: str, names: str, modules: dict) -> Part:
    """The part of a module with weights of its own: sentence-transformers', or a head beside."""
    table = rows.parse(names)
    own = {name: modules[name] for row in table for name in row.paths if name in modules}
    return Part(path, rows.layouts(table, own, {}), open_tensors(folder, path), ())
