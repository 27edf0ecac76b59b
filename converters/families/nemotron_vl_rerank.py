"""llama-nemotron-rerank-vl-1b-v2: Llama-Nemotron-VL with a score of a query and a document.

Its prompt and pooling are those of the code beside the model, whose words have a version.
"""

from dataclasses import replace

from converters.families.bidirectional import score
from converters.families.nemotron_vl import NEMOTRON_VL
from converters.families.nemotron_vl import arch as nemotron_vl_arch
from converters.family import Head, dense
from jaxpool.nn.arch import Arch


def arch(config) -> Arch:
    """That of the embedding model, where the words are known."""
    if config.prompt_template != "v1":
        raise ValueError(
            f"config.json: prompt_template must be 'v1', found {config.prompt_template!r}"
        )
    return nemotron_vl_arch(config)


NEMOTRON_VL_RERANK = replace(
    NEMOTRON_VL,
    arch=arch,
    heads={
        "SequenceClassification": Head(
            "classify", score, dense("heads.score", "score"), optional_bias=True
        )
    },
    processor="LlamaNemotronVLRerank",
    examples=("nvidia/llama-nemotron-rerank-vl-1b-v2",),
)
