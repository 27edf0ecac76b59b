"""GLiNER: labels before a text, and scores of spans of words, from one forward of an encoder.

Zaratiana et al. (arXiv 2311.08526), the uni-encoder of spans, and that of marks of words (NuNER
Zero, multitask; arXiv 2406.12925). Its gliner_config.json holds the configuration of an encoder,
which may be any that loads by itself.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converters.family import Family, Head, dense
from converters.report import CheckpointError
from jaxpool.heads.spans import Marks, Spans
from jaxpool.nn.arch import Arch
from jaxpool.tasks.token_rows import Spanned

FIXED = {  # fields that are read, and the only values that are implemented; None stands for unset
    "span_mode": ("markerV0", "token_level", "token-level"),
    "subtoken_pooling": ("first", None),
    "words_splitter_type": ("whitespace", None),
    "fuse_layers": (False, None),
    "post_fusion_schema": ("", None),
    "span_encoder_config": (None,),
    "represent_spans": (False, None),
    "precomputed_prompts_mode": (False, None),
    "labels_encoder": (None,),
    "labels_decoder": (None,),
    "num_rnn_layers": (0, 1, None),
}
SPAN, LSTM = "span_rep_layer.span_rep_layer", "rnn.lstm"


def unfold(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of its gliner_config.json as those of the encoder's, with its own beside them."""
    encoder = raw.get("encoder_config")
    if not isinstance(encoder, Mapping):
        raise CheckpointError(
            "gliner_config.json: wanted the encoder's fields in encoder_config, found "
            f"{encoder!r}; older files name {raw.get('model_name')!r} alone, and GLiNER's package "
            "writes them anew"
        )
    for name, known in FIXED.items():
        if (found := raw.get(name, known[0])) not in known:
            raise CheckpointError(
                f"gliner_config.json: {name} must be one of {known}, found {found!r}"
            )
    vocab = raw.get("vocab_size", -1)
    vocab = vocab if vocab > 0 else encoder["vocab_size"]
    return {"model_type": "deberta-v2", **encoder, "vocab_size": vocab, "gliner": dict(raw)}


def steps(config, arch: Arch) -> tuple:
    """The logits of each span, or of each word in one, for each label of its text."""
    own = config.gliner
    facts = {
        "recurrent": own.get("num_rnn_layers", 1) == 1,
        "after": not own.get("embed_ent_token", True),
    }
    sizes = (arch.dim, own["hidden_size"], own.get("max_width", 12), own["class_token_index"])
    kind = Spans if own.get("span_mode", "markerV0") == "markerV0" else Marks
    return (kind("spans", *sizes, **facts),)


def rows(config) -> Spanned:
    """How labels are put before a text, and its longest."""
    own = config.gliner
    marks = own.get("ent_token", "<<ENT>>"), own.get("sep_token", "<<SEP>>")
    return Spanned(own["class_token_index"], *marks, own.get("max_len", 384))


MARKS = {"word": "proj_token", "label": "proj_label", "up": "out_mlp.0", "down": "out_mlp.3"}
NAMES = dense("heads.spans.project", "token_rep_layer.projection")
NAMES += "".join(dense(f"heads.spans.{ours}", f"scorer.{name}") for ours, name in MARKS.items())
NAMES += "".join(
    dense(f"heads.spans.{ours}.up", f"{name}.0") + dense(f"heads.spans.{ours}.down", f"{name}.3")
    for ours, name in (
        ("start", f"{SPAN}.project_start"),
        ("end", f"{SPAN}.project_end"),
        ("span", f"{SPAN}.out_project"),
        ("label", "prompt_rep_layer"),
    )
)
for way, suffix in (("forward", ""), ("backward", "_reverse")):
    for part, name in (("input", "ih"), ("hidden", "hh")):
        path = f"heads.spans.recurrence.{way}.{part}"
        NAMES += f"{path}.kernel {LSTM}.weight_{name}_l0{suffix} O I\n"
        NAMES += f"{path}.bias {LSTM}.bias_{name}_l0{suffix} O\n"


def around(encoder: Family) -> Family:
    """GLiNER with an encoder of a family."""
    return replace(
        encoder,
        name="GLiNER",
        prefix="token_rep_layer.bert_layer.model.",
        heads={"Model": Head("spans", steps, NAMES, rows=rows)},
        unfold=unfold,
        examples=("urchade/gliner_medium-v2.1", "knowledgator/gliner-multitask-large-v0.5"),
    )
