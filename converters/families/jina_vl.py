"""jina-reranker-m0: Qwen2-VL that reads a document, then a query, and a token for the answer.

Its prompt, that token and the mean of its logits are those of the code beside the model.
"""

from dataclasses import replace

from converters.families.decoder import LAST
from converters.families.qwen2_vl import QWEN2_VL
from converters.family import Head, dense
from converters.joined import AS_WRITTEN
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch

ANSWER = 100  # the id of a lone byte, which no text spells


def steps(config, arch: Arch) -> tuple:
    """The last token through two linear layers."""
    return (
        LAST,
        Dense("pooler", arch.dim, arch.dim, activation="relu"),
        Dense("classifier", arch.dim, 1),
    )


NAMES = dense("heads.pooler", "score.0") + dense("heads.classifier", "score.2")
JINA_VL = replace(
    QWEN2_VL,
    name="JinaVL",
    heads={"Ranking": Head("classify", steps, NAMES, defaults={"logit_mean": 2.65})},
    renames=(
        *QWEN2_VL.renames,
        (r"^score\.dense\.", "score.0."),
        (r"^score\.out_proj\.", "score.2."),
    ),
    conversation=replace(AS_WRITTEN, last=ANSWER),
    examples=("jinaai/jina-reranker-m0",),
)
