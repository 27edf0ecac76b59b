"""`PoolDecoded`: pooling of a decoder's tokens, which read another text's vectors."""

from dataclasses import dataclass

from jaxpool.heads.steps import Pool


@dataclass(frozen=True)
class PoolDecoded(Pool):
    """Pooling where each text has the vectors of a document beside it (`Batch.memory`)."""


def reads_memory(chains) -> bool:
    """Whether some chains pool what a decoder makes of vectors beside its tokens."""
    return any(isinstance(step, PoolDecoded) for steps in chains for step in steps)
