"""BGE's reranker v2.5 on Gemma 2: scores by a layer that a caller names, of shortened documents."""

from converters.families.decoder import IGNORED, LAST
from converters.families.gemma import SANDWICH_NAMES, gemma2_arch
from converters.families.minicpm import layer
from converters.family import Family, Head
from converters.report import CheckpointError
from jaxpool.heads.cap import Cap
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch
from jaxpool.nn.between import Compression

RATIOS = (1, 2, 4, 8)  # that it was trained with
COMPRESSED = (8,)  # the layers of FlagEmbedding's LightweightLLMReranker, where a caller names none


def compression(config) -> Compression | None:
    """`compress_ratio` and `compress_layers` of an override: none without a ratio above 1."""
    ratio = getattr(config, "compress_ratio", None) or 1
    before = getattr(config, "compress_layers", None) or COMPRESSED
    if ratio not in RATIOS:
        raise CheckpointError(f"config.json: compress_ratio must be one of {RATIOS}, found {ratio}")
    if ratio == 1:
        return None
    last = config.num_hidden_layers - 1
    if not set(before) <= set(range(1, last + 1)):
        raise CheckpointError(
            f"config.json: compress_layers must be layers in 1..{last}, found {before}"
        )
    counted = tuple(sorted({one for one in before if one < layer(config)}))
    return Compression(counted, ratio) if counted else None


def cost_wise_arch(config) -> Arch:
    """Gemma 2 up to the layer that scores."""
    if not getattr(config, "layer_wise", False):
        raise CheckpointError("config.json: layer_wise must be true, as in BGE's reranker v2.5")
    whole, count = gemma2_arch(config), layer(config)
    return whole.replace(
        layers=count, windows=whole.windows[:count], compression=compression(config)
    )


def _score(config, arch: Arch) -> tuple:
    cap = config.final_logit_softcapping
    return (LAST, Dense("score", arch.dim, 1, bias=False), *((Cap(cap),) if cap else ()))


COST_WISE_GEMMA = Family(
    "CostWiseGemma",
    cost_wise_arch,
    SANDWICH_NAMES,
    prefix="model.",
    # The authors' code counts scores by the layers that a call asks for, so that one layer has the
    # first score, whichever it is.
    heads={
        "CausalLM": Head("classify", _score, "heads.score.kernel lm_head.0.linear_head.weight O I")
    },
    ignored=(*IGNORED, r"^model\.layers\.\d+\."),  # the layers behind the one that scores
    pool="lasttoken",
    config="gemma2",
    examples=("BAAI/bge-reranker-v2.5-gemma2-lightweight",),
)
