"""DPR's two encoders, and BERT as a part of a generator: BERT by other names."""

from dataclasses import replace

from converters.families import bert
from converters.family import require
from converters.heads.classifiers import unused_pooler
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """DPR: the first token's state is the vector. Refuses a projection of it."""
    require(config, projection_dim=0)
    return bert.arch(config)


DPR = replace(
    bert.BERT,
    name="DPR",
    arch=arch,
    prefix="",
    heads={"Model": unused_pooler()},
    renames=(*bert.LEGACY, (r"^(question|ctx)_encoder\.bert_model\.", "")),
    examples=("facebook/dpr-ctx_encoder-single-nq-base",),
)
BERT_GENERATION = replace(
    bert.BERT,
    name="BertGeneration",
    heads={},
    examples=("google/bert_for_seq_generation_L-24_bbc_encoder",),
)
