"""GPT-NeoX and GPT-J: the MLP reads what attention reads."""

from converters.families.decoder import (
    BOTH_NORMS,
    BUFFERS,
    IGNORED,
    OLD_HEADS,
    WIDE,
    arch,
    decoder_names,
    family,
    fused_names,
    mlp_names,
    score,
)
from converters.family import activation, attention
from converters.rotary import rotary
from jaxpool.nn.arch import Arch, Rotary


def neox_arch(config) -> Arch:
    """GPT-NeoX: LayerNorm, a part of each head turns."""
    tables = (rotary(config, partial=True),)
    parallel = config.use_parallel_residual
    return arch(config, norm="layer", parallel=parallel, rotary=tables, gated=False, mlp_bias=True)


def gptj_arch(config) -> Arch:
    """GPT-J: one norm for both branches; neighbouring features turn."""
    features = config.n_embd // config.n_head
    return arch(
        config,
        mlp_dim=config.n_inner or 4 * config.n_embd,
        norm="layer",
        parallel=True,
        rotary=(Rotary(10000.0, config.rotary_dim or features, interleaved=True),),
        gated=False,
        activation=activation(config.activation_function),
        mlp_bias=True,
        max_length=config.n_positions,
    )


BLOCK = "layers.{L}.attention"
NEOX_NAMES = decoder_names(
    fused_names(f"{BLOCK}.query_key_value", f"{BLOCK}.dense"),
    mlp_names("layers.{L}.mlp", WIDE),
    embedding="embed_in",
    last_norm="final_layer_norm",
)
GPTJ_NAMES = decoder_names(
    attention("h.{L}.attn", "q_proj", "k_proj", "v_proj", "out_proj"),
    mlp_names("h.{L}.mlp", {"up": "fc_in", "down": "fc_out"}),
    {BOTH_NORMS: "ln_1"},
    "wte",
    "ln_f",
    "h.{L}",
)
OLD = dict(ignored=(BUFFERS, *IGNORED, r"^embed_out\."))

GPT_NEOX = family(
    "GPTNeoX",
    neox_arch,
    NEOX_NAMES,
    prefix="gpt_neox.",
    heads=OLD_HEADS,
    **OLD,
    examples=("EleutherAI/pythia-410m",),
)
GPTJ = family(
    "GPTJ",
    gptj_arch,
    GPTJ_NAMES,
    prefix="transformer.",
    heads={"SequenceClassification": score()},
    **OLD,
    examples=("EleutherAI/gpt-j-6b", "Milos/slovak-gpt-j-405M"),
)
