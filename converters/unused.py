"""Tensors that nothing here computes with, such as the `lm_head` of an embedding model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from converters import rows
from converters.files.tensors import Tensors, save_tensors, weight_files
from converters.heads.answers import OUTPUTS

STEM = "unused"  # of their file in an Orbax folder


def find_unused(
    layouts: list[rows.Layout], source, embedding: str, tied: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of `source` that no layout reads, less copies of those that one does.

    A copy of what has a row a word (the `embedding`, the output's bias) is a tied tensor, written
    out by some library: it would contradict trained parameters. Only where the configuration says
    that they are not `tied`, the output embedding is one of its own.
    """
    used = {name for layout in layouts for _, name in layout.names()}
    vocab = source.shape(embedding)[:1] if embedding else None
    by_word = [name for name in used if source.shape(name)[:1] == vocab]
    for name in sorted(source.keys() - used):
        tensor = source[name]
        own = name in OUTPUTS and not tied
        if own or not any(np.array_equal(source[other], tensor) for other in by_word):
            yield name, tensor


def save_unused(tensors: Iterator[tuple[str, np.ndarray]], folder: Path) -> None:
    """Write them beside the parameters of an Orbax folder, if there are any."""
    if kept := list(tensors):
        save_tensors(iter(kept), folder, STEM)


def saved_unused(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Those of an Orbax folder."""
    if any(folder.glob(f"{STEM}*.safetensors")):
        tensors = Tensors(weight_files(folder, (f"{STEM}.safetensors",)))
        yield from ((name, tensors[name]) for name in tensors.keys())
