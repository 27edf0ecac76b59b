"""GLiClass: labels before a text, and a score of each from one forward of an encoder.

Knowledgator's GLiClass (arXiv 2508.07662), the uni-encoder: its configuration holds that of an
encoder, which may be any that loads by itself.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converters.family import Family, Head, activation, dense
from converters.report import CheckpointError
from jaxpool.heads.labels import POOLS, SCORERS, LabelLogits, Projector
from jaxpool.nn.arch import Arch
from jaxpool.tasks.token_rows import Labelled

# What is read of its own fields, and the only values that are implemented.
FIXED = {
    "architecture_type": "uni-encoder",
    "class_token_pooling": "first",
    "use_lstm": False,
    "squeeze_layers": False,
    "encoder_layer_id": -1,
    "use_segment_embeddings": False,
    "use_calibrator": False,
    "normalize_features": False,
}
OWN = (
    *("architectures", "class_token_index", "text_token_index", "prompt_first"),
    *("embed_class_token", "extract_text_features", "pooling_strategy", "scorer_type"),
    *("projector_hidden_act", "max_position_embeddings"),
)
BASE = "model."


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its config.json as those of the encoder's, with its own beside them."""
    encoder = raw.get("encoder_config")
    if not isinstance(encoder, Mapping):
        raise CheckpointError("config.json: GLiClass needs its encoder's fields in encoder_config")
    for name, value in FIXED.items():
        if raw.get(name, value) != value:
            raise CheckpointError(f"config.json: {name} must be {value!r}, found {raw[name]!r}")
    fields = {name: raw[name] for name in OWN if name in raw}
    width = raw.get("hidden_size") or encoder["hidden_size"]
    vocab = raw.get("vocab_size") or encoder["vocab_size"]
    return {
        "model_type": "deberta-v2",
        **encoder,
        **fields,
        "vocab_size": vocab,
        "projector": width,
    }


def steps(config, arch: Arch) -> tuple:
    """The logit of each token as a label of its text."""
    pooling = getattr(config, "pooling_strategy", "first")
    scorer = getattr(config, "scorer_type", "simple")
    for name, value, known in (
        ("pooling_strategy", pooling, POOLS),
        ("scorer_type", scorer, SCORERS),
    ):
        if value not in known:
            raise CheckpointError(f"config.json: {name} must be one of {[*known]}, found {value!r}")
    inner = getattr(config, "extract_text_features", False)
    if inner and pooling != "first":
        raise CheckpointError("config.json: extract_text_features needs pooling_strategy 'first'")
    act = activation(getattr(config, "projector_hidden_act", "gelu"))
    projector = Projector(arch.dim, config.projector, act)
    start = config.text_token_index if inner else -1
    after = not getattr(config, "embed_class_token", True)
    return (LabelLogits("labels", projector, pooling, scorer, start, after),)


def rows(config) -> Labelled:
    """Which token stands for a label, and how labels are put before a text."""
    first = bool(getattr(config, "prompt_first", False))
    return Labelled(config.class_token_index, "<<LABEL>>", "<<SEP>>", first)


NAMES = "".join(
    dense(f"heads.labels.{ours}", BASE + name)
    for ours, name in (
        ("text.up", "text_projector.linear_1"),
        ("text.down", "text_projector.linear_2"),
        ("label.up", "classes_projector.linear_1"),
        ("label.down", "classes_projector.linear_2"),
        ("scorer.text", "scorer.proj_text"),
        ("scorer.label", "scorer.proj_label"),
        ("scorer.up", "scorer.out_mlp.0"),
        ("scorer.down", "scorer.out_mlp.3"),
        ("scorer.first", "scorer.mlp.0"),
        ("scorer.second", "scorer.mlp.2"),
        ("scorer.third", "scorer.mlp.4"),
    )
)


def around(encoder: Family) -> Family:
    """GLiClass with an encoder of a family."""
    return replace(
        encoder,
        name="GLiClass",
        prefix=f"{BASE}encoder_model.",
        heads={"Model": Head("labels", steps, NAMES, rows=rows)},
        ignored=(*encoder.ignored, r"^model\.logit_scale$"),
        unfold=unfold,
        examples=("knowledgator/gliclass-base-v1.0", "knowledgator/gliclass-modern-base-v2.0"),
    )
