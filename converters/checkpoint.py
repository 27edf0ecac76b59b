"""A Hugging Face checkpoint folder as (Arch, heads, parameters), and back."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converters import answers, lora, rows
from converters.architectures import architecture, check_options, choose_head
from converters.configuration import read_config
from converters.family import Family, Head
from converters.files import (
    Manifest,
    Tensors,
    copy_companions,
    open_tensors,
    save_tensors,
    update_json,
)
from converters.late_interaction import read_late_interaction
from converters.report import CheckpointError, ShapeError
from converters.rerankers import Reranker, find_published
from converters.sentence_transformers import Pipeline, read_pipeline
from jaxpool import heads, params
from jaxpool.arch import Arch
from jaxpool.late_interaction import LateInteraction

EMBEDDING = "embed.token.embedding"


class Part(NamedTuple):
    """Some of the parameters and the weight file they lie in, relative to the folder."""

    folder: str
    layouts: list[rows.Layout]
    source: Tensors | Manifest
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds, before any tensor is read.

    leaves: the abstract parameter tree; head: the task head of the architecture, or None;
    uses_head: whether the tasks come from it, or the model embeds; base: the folder of config.json
    and the transformer's weights, another one for a folder of an adapter alone; reranker: the
    published one that this is; choice: the tokens that its classifier is made of.
    """

    folder: Path
    base: Path
    config: Any
    family: Family
    arch: Arch
    head: Head | None
    uses_head: bool
    head_steps: tuple
    pipeline: Pipeline | None
    leaves: dict
    parts: list[Part]
    reranker: Reranker | None = None
    choice: answers.Choice | None = None

    @property
    def pool(self) -> str:
        """The pooling of an embedding model without sentence-transformers files."""
        pool = self.family.pool
        return pool(self.config) if callable(pool) else pool

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
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters within the checkpoint."""
        return tuple(self.config.lora_adaptations) if self.arch.adapters else ()

    @property
    def architecture(self) -> str:
        """The architecture's name in config.json."""
        return architecture(self.config)

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

    def copy_companions(self, folder: Path) -> None:
        """Copy everything but weights and the adapter, which is merged."""
        base = folder / (self.pipeline.transformer if self.pipeline else "")
        copy_companions(self.base, base)
        copy_companions(self.folder, folder)
        if self.choice and self.reranker:
            # A published reranker is known by its name, which the copy need not have.
            names = ("method", "classifier_from_token")
            update_json(base / "config.json", {n: getattr(self.config, n, None) for n in names})

    def write(self, tree: dict, folder: Path) -> None:
        """Export parameters as a folder that Hugging Face loads."""
        self.copy_companions(folder)
        flat = params.flatten(tree)
        for part in self.parts:
            (folder / part.folder).mkdir(parents=True, exist_ok=True)
            save_tensors(rows.write(part.layouts, flat), folder / part.folder)


def open_checkpoint(
    folder: Path,
    overrides: Mapping | Callable | None = None,
    runner: str = "auto",
    convert: str = "auto",
    adapter: Path | None = None,
    returned: Sequence[int] = (),
    name: str = "",
) -> Checkpoint:
    """Read the configuration files of a folder and match its weight files to name tables.

    A LoRA `adapter`, or one that lies in the folder, is merged. `returned`: ids of the tokens whose
    logits are the output of a causal language model (see `answers`). `name`: what the model was
    asked for as, the folder if not given.
    """
    pipeline = read_pipeline(folder)
    inside = pipeline.transformer if pipeline else ""
    base, adapter = lora.find(folder / inside, adapter)
    family, config = read_config(base, overrides, pipeline.model_type if pipeline else None)
    if family.adapter and not adapter:
        base, adapter = lora.find(base, base / family.adapter(config))
    source = _open(folder, inside, base, family, adapter)
    for field, (name, axis) in family.sizes.items():
        setattr(config, field, source.shape(name)[axis])
    arch = family.arch(config)
    pools = bool(pipeline and pipeline.pools)
    check_options(runner, convert, architecture(config), pools)
    chosen = choose_head(family, config, convert, pools)
    reranker = find_published(name or str(folder), config)
    made = _answers(config, base, pipeline, reranker, convert, returned)
    if made:
        chosen = (made.head, True)
        source = answers.add(source, made.ids, *_output(family, source, config))
    head, uses_head, head_table, steps = _head(family, config, arch, chosen, source)
    table = _base_table(family, source, config) + head_table
    leaves = params.abstract(arch) | {"heads": heads.abstract([steps])}
    flat = params.flatten(leaves)
    parts = [
        Part(
            inside, rows.layouts(table, flat, arch.sizes(), arch.numbers()), source, family.ignored
        )
    ]
    if pipeline:
        modules = params.flatten({"heads": heads.abstract(pipeline.chains)})
        parts += [_module(folder, path, names, modules) for path, names in pipeline.folders.items()]
        flat |= modules
    leaves = params.unflatten(flat)
    return Checkpoint(
        folder,
        base,
        config,
        family,
        arch,
        head,
        uses_head,
        steps,
        pipeline,
        leaves,
        parts,
        reranker,
        made,
    )


def _answers(config, base: Path, pipeline, reranker, convert: str, returned):
    """The classifier made of tokens, unless a caller wants an embedding model."""
    if returned and architecture(config).endswith("ForCausalLM"):
        return answers.at_every_token(returned)
    if convert == "embed":
        return None
    return answers.find(config, base, pipeline, reranker)


def _open(folder: Path, inside: str, base: Path, family: Family, adapter: Path | None):
    """The transformer's tensors, with the adapter's added and what is computed from them."""
    rename = _canonical(family)
    if base != folder / inside:
        folder, inside = base, ""
    source = open_tensors(folder, inside, rename)
    if adapter:
        source = lora.Merged(source, adapter, rename, family.prefix)
    return family.derive(source) if family.derive else source


def _module(folder: Path, path: str, names: str, modules: dict) -> Part:
    """The part of a sentence-transformers module with weights of its own."""
    own = {name: leaf for name, leaf in modules.items() if name.startswith(f"heads.{path}.")}
    source = open_tensors(folder, path)
    return Part(path, rows.layouts(rows.parse(names), own, {}), source, ())


def _without_absent_biases(steps: tuple, table: list[rows.Row], source: Tensors) -> tuple:
    names = {path: row.name for row in table for path in row.paths}
    return tuple(
        replace(step, bias=names[f"heads.{step.name}.bias"] in source.keys())
        if isinstance(step, heads.Dense)
        else step
        for step in steps
    )


def _canonical(family: Family) -> Callable[[str], str]:
    def rename(name: str) -> str:
        for pattern, replacement in family.renames:
            name = re.sub(pattern, replacement, name)
        return name

    return rename


def _head(family, config, arch: Arch, chosen: tuple[Head | None, bool], source) -> tuple:
    """The head as this file has it: itself, whether the tasks come from it, its table and steps."""
    head, uses_head = chosen
    table = _head_table(family, head, source, config)
    if head and head.task == "sparse" and not _has(table, source):
        # Many embedding models keep the name of the masked language model they were trained from.
        head, uses_head = family.heads.get("Model"), False
        table = _head_table(family, head, source, config)
    if head is None or not (uses_head or _has(table, source)):
        return head, uses_head, table, ()
    _read_sizes(head, source, config)
    steps = head.steps(config, arch)
    if head.optional_bias:
        steps = _without_absent_biases(steps, table, source)
    return head, uses_head, table, steps


def _prefix(family: Family, source: Tensors) -> str:
    """What precedes the base model's names in this file: the family's prefix, or nothing."""
    prefix = family.prefix
    return prefix if prefix and any(name.startswith(prefix) for name in source.keys()) else ""


def _base_table(family: Family, source: Tensors, config) -> list[rows.Row]:
    add = _prefix(family, source)
    return [row._replace(name=add + row.name) for row in rows.parse(family.table(config))]


def _head_table(family: Family, head: Head | None, source: Tensors, config) -> list[rows.Row]:
    """A head's table as the file has it: with the family's prefix or without, tied or not."""
    add = _prefix(family, source)
    table = rows.parse(head.names) if head else []
    if head and not head.task:
        return [row._replace(name=add + row.name) for row in table]
    if not add:
        table = [row.rename(lambda name: name.removeprefix(family.prefix)) for row in table]
    if getattr(config, "tie_word_embeddings", True):
        table = [row.tie(source.keys()) for row in table]
    return [row._replace(exported=row.exported and row.name != answers.NAME) for row in table]


def _output(family: Family, source: Tensors, config) -> tuple[str, bool]:
    """The name of the token embedding in this file, and whether the output is tied to it."""
    rows_of = (row for row in _base_table(family, source, config) if EMBEDDING in row.paths)
    return next(rows_of).name, getattr(config, "tie_word_embeddings", True)


def _has(table: list[rows.Row], source: Tensors) -> bool:
    """Whether a kernel of a head's table lies in the file (a tied one does not count)."""
    kernels = [row for row in table if row.exported and row.paths[0].endswith(".kernel")]
    return any(row.name in source.keys() for row in kernels)


def _read_sizes(head: Head, source: Tensors, config) -> None:
    """Set the configuration's missing sizes of a head from its tensors."""
    for field, name in head.sizes.items():
        if getattr(config, field, None) is None and name in source.keys():
            setattr(config, field, source.shape(name)[0])
