"""Longformer: RoBERTa with windows; a classifier's first token sees all and is seen by all."""

from converters.families import bert, roberta
from converters.family import dense
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """Longformer: a window counts the tokens on both sides; products of its own for the first."""
    sides, layers = config.attention_window, config.num_hidden_layers
    sides = [sides] * layers if isinstance(sides, int) else sides
    classifies = any("SequenceClassification" in name for name in config.architectures or ())
    return roberta.arch(config).replace(
        windows=tuple(side // 2 for side in sides), leading=classifies
    )


SELF = "encoder.layer.{L}.attention.self"
LONGFORMER = roberta.twin(
    "Longformer",
    "longformer.",
    arch=arch,
    names=bert.NAMES
    + "".join(
        dense(f"layers.attention.leading.{x}", f"{SELF}.{x}_global", f"({n} H) D")
        for x, n in (("query", "N"), ("key", "K"), ("value", "K"))
    ),
    # Which tokens see all is a caller's choice in all models but classifiers.
    ignored=(*roberta.ignored("longformer."), r"\.(query|key|value)_global\."),
    examples=("allenai/longformer-base-4096",),
)
