"""Heads in files of their own beside a model: BGE-M3's `sparse_linear.pt` and `colbert_linear.pt`.

Source: Chen et al., arXiv 2402.03216. One forward gives the text's vector, a weight for each of its
words, and a vector for each token but the first.
"""

from pathlib import Path
from typing import NamedTuple

from converters.architectures import architecture
from converters.files.tensors import has_tensors, open_tensors
from converters.report import CheckpointError
from jaxpool.heads.steps import Activate, Cut, Dense, Normalize
from jaxpool.nn.arch import Arch
from jaxpool.tasks.task import Task
from jaxpool.tasks.token_rows import Inner, Words

REQUIRED = "BgeM3EmbeddingModel"  # vLLM's name of a model that must have the files
UNWEIGHED = ("cls_token", "eos_token", "pad_token", "unk_token")
TABLE = "heads.{0}.kernel weight O I\nheads.{0}.bias bias O\n"


class Beside(NamedTuple):
    """The tasks of heads beside a model, and the table of each file."""

    tasks: dict[str, Task]
    tables: dict[str, str]


def _sparse(head: Dense, arch: Arch) -> list[Task]:
    relu = Activate("relu")
    return [
        Task("sparse", (head, relu), rows=Words(arch.vocab, UNWEIGHED)),
        Task("token_classify", (head, relu), rows=Inner("cls_token", "eos_token")),
    ]


def _vectors(head: Dense, arch: Arch) -> list[Task]:
    return [Task("token_embed", (head, Cut(), Normalize()), rows=Inner("cls_token"))]


HEADS = {"sparse_linear": _sparse, "colbert_linear": _vectors}


def read_beside(folder: Path, config, arch: Arch) -> Beside:
    """The heads beside the model in a folder, as far as there are any."""
    found = Beside({}, {})
    for name, tasks in HEADS.items():
        file = f"{name}.pt"
        if not has_tensors(folder, file):
            if architecture(config) == REQUIRED:
                raise CheckpointError(f"{REQUIRED}: wanted {file} in {folder}, found none")
            continue
        head = Dense(name, arch.dim, open_tensors(folder, file).shape("weight")[0])
        found.tables[file] = TABLE.format(name)
        found.tasks.update({task.name: task for task in tasks(head, arch)})
    return found
