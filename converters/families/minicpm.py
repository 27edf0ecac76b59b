"""BGE's layerwise reranker of MiniCPM: scores by the last layer, or by one that a caller names."""

from converters.families.decoder import IGNORED, LAST, arch, decoder_names
from converters.family import Family, Head
from converters.report import CheckpointError
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch

NEEDED = ("scale_emb", "scale_depth", "start_layer", "head_multi", "head_type")


def layer(config) -> int:
    """The layer that scores: `cutoff_layers`, a number (or a list of one), of an override."""
    found = getattr(config, "cutoff_layers", None) or config.num_hidden_layers
    wanted = found[0] if isinstance(found, list) and len(found) == 1 else found
    first, last = config.start_layer, config.num_hidden_layers
    step = getattr(config, "layer_sep", 1)
    if wanted not in range(first, last + 1, step):
        each = f" in steps of {step}" if step > 1 else ""
        raise CheckpointError(
            f"config.json: cutoff_layers must be one layer in {first}..{last}{each}, "
            f"found {found!r}"
        )
    return wanted


def minicpm_arch(config) -> Arch:
    """MiniCPM up to the layer that scores: its factors are those of all layers."""
    if lacking := [name for name in NEEDED if not hasattr(config, name)]:
        raise CheckpointError(f"config.json: a layerwise reranker needs {lacking}")
    if (config.head_type, config.head_multi) != ("simple", True):
        raise CheckpointError(
            "config.json: head_type must be 'simple' and head_multi true, found "
            f"{config.head_type!r} and {config.head_multi!r}"
        )
    return arch(
        config,
        layers=layer(config),
        embed_scale=float(config.scale_emb),
        residual_scale=config.scale_depth / config.num_hidden_layers**0.5,
    )


def _score(config, arch: Arch) -> tuple:
    return (LAST, Dense("score", arch.dim, 1, bias=False))


def _score_name(config) -> str:
    return f"heads.score.kernel lm_head.{layer(config) - config.start_layer}.linear_head.weight O I"


MINICPM_LAYERWISE = Family(
    "LayerWiseMiniCPM",
    minicpm_arch,
    decoder_names(),
    prefix="model.",
    heads={"CausalLM": Head("classify", _score, _score_name)},
    ignored=(*IGNORED, r"^model\.layers\.\d+\."),  # the layers and scores behind the one
    pool="lasttoken",
    config="llama",
    examples=("BAAI/bge-reranker-v2-minicpm-layerwise",),
)
