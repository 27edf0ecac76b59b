"""A family's name tables as one file has them: its prefix, ties, missing heads and biases."""

from dataclasses import replace

from converters import rows
from converters.family import Family, Head
from converters.files.tensors import Source
from converters.heads import answers
from converters.report import CheckpointError
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch

EMBEDDING = "embed.token.embedding"


def head_of(family, config, arch: Arch, chosen: tuple[Head | None, bool], source) -> tuple:
    """The head as this file has it: itself, whether the tasks come from it, its table and steps."""
    head, uses_head = chosen
    table = _head_table(family, head, source, config)
    if head and head.task == "sparse" and _lacks(table, source):
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


def _prefix(family: Family, source: Source) -> str:
    """What precedes the base model's names in this file: the family's prefix, or nothing."""
    prefix = family.prefix
    return prefix if prefix and any(name.startswith(prefix) for name in source.keys()) else ""


def base_table(family: Family, source: Source, config) -> list[rows.Row]:
    """The table of the base model; a tied tensor goes by the name that the file has for it."""
    add, names = _prefix(family, source), source.keys()
    table = [row.rename(lambda name: add + name) for row in rows.parse(family.table(config))]
    other = [row.tied and row.name not in names for row in table]
    return [r._replace(name=r.tied) if o else r for r, o in zip(table, other, strict=True)]


def _head_table(family: Family, head: Head | None, source: Source, config) -> list[rows.Row]:
    """A head's table as the file has it: with the family's prefix or without, tied or not."""
    add = _prefix(family, source)
    table = rows.parse(head.table(config)) if head else []
    if head and not head.task:
        return [row._replace(name=add + row.name) for row in table]
    if not add:
        table = [row.rename(lambda name: name.removeprefix(family.prefix)) for row in table]
    if getattr(config, "tie_word_embeddings", True):
        table = [row.tie(source.keys()) for row in table]
    return [row._replace(exported=row.exported and row.name != answers.NAME) for row in table]


def output_of(family: Family, source: Source, config) -> tuple[str, bool]:
    """The name of the token embedding in this file ("" in one of pictures alone), and whether the
    output is tied to it."""
    names = (row.name for row in base_table(family, source, config) if EMBEDDING in row.paths)
    return next(names, ""), getattr(config, "tie_word_embeddings", True)


def _kernels(table: list[rows.Row]) -> list[str]:
    """The names of a head's kernels, without those that are tied."""
    return [row.name for row in table if row.exported and row.paths[0].endswith(".kernel")]


def _has(table: list[rows.Row], source: Source) -> bool:
    """Whether a kernel of a head's own lies in the file."""
    return any(name in source.keys() for name in _kernels(table))


def _lacks(table: list[rows.Row], source: Source) -> bool:
    """Whether a head has kernels of its own, none of which lies in the file."""
    return bool(_kernels(table)) and not _has(table, source)


def _read_sizes(head: Head, source: Source, config) -> None:
    """Set the configuration's missing sizes of a head from its tensors."""
    for field, name in head.sizes.items():
        if getattr(config, field, None) is not None:
            continue
        if name not in source.keys():
            raise CheckpointError(f"wanted a tensor {name}, or its size {field} in config.json")
        setattr(config, field, source.shape(name)[0])


def _without_absent_biases(steps: tuple, table: list[rows.Row], source: Source) -> tuple:
    names = {path: row.name for row in table for path in row.paths}
    return tuple(
        replace(step, bias=names[f"heads.{step.name}.bias"] in source.keys())
        if isinstance(step, Dense)
        else step
        for step in steps
    )
