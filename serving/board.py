"""What the processes of a server tell each other all the time: numbers in shared memory."""

import mmap
from pathlib import Path

import numpy as np


class Board:
    """Arrays of float64 in one file, which every process of a server maps.

    sent: tokens of the jobs that a worker has sent to a replica and that are not answered,
    `[workers, replicas]`; queued: for each model of a replica the tokens that wait, and those it
    computes in a second, `[replicas, models, 2]`.
    """

    def __init__(self, path: Path, workers: int, replicas: int, models: int):
        shapes = [(workers, replicas), (replicas, models, 2)]
        sizes = [int(np.prod(shape)) for shape in shapes]
        with path.open("a+b") as file:
            file.truncate(8 * sum(sizes))
            memory = mmap.mmap(file.fileno(), 8 * sum(sizes))
        numbers = np.frombuffer(memory, np.float64)
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        self.sent, self.queued = (
            part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)
        )
