"""LFM2: gated short convolutions beside attention; causal, and bidirectional encoders."""

from dataclasses import replace

from converters.families.decoder import (
    HEADS,
    MASKED_LM,
    arch,
    attention_names,
    decoder_names,
    family,
    mlp_names,
)
from converters.family import Family, dense
from converters.heads.classifiers import colbert
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import ShortConvolution


def lfm2_arch(config) -> Arch:
    """LFM2: the size of its MLPs is adjusted; the layers that attend are named."""
    attends = tuple(kind == "full_attention" for kind in config.layer_types)
    return arch(
        config,
        mlp_dim=_mlp_dim(config),
        qk_norm="head",
        mixer=ShortConvolution(config.hidden_size, config.conv_L_cache, config.conv_bias),
        attention_layers=() if all(attends) else attends,
    )


def _mlp_dim(config) -> int:
    size = config.intermediate_size
    if not (config.knows("block_auto_adjust_ff_dim") and config.block_auto_adjust_ff_dim):
        return size
    size = int(2 * size / 3)
    if config.block_ffn_dim_multiplier is None:
        return size
    step = config.block_multiple_of
    return -(-int(config.block_ffn_dim_multiplier * size) // step) * step


LAYER = "layers.{L}"
NAMES = decoder_names(
    attention=attention_names(f"{LAYER}.self_attn")
    .replace("o_proj", "out_proj")
    .replace("q_norm", "q_layernorm")
    .replace("k_norm", "k_layernorm"),
    mlp=mlp_names(f"{LAYER}.feed_forward", {"gate": "w1", "up": "w3", "down": "w2"}),
    norms={"attention_norm": "operator_norm", "mlp_norm": "ffn_norm"},
    last_norm="embedding_norm",
)
MIXER = (
    dense("layers.mixer.{before,after,value}", f"{LAYER}.conv.in_proj", "(p|p|p) D")
    + dense("layers.mixer.conv", f"{LAYER}.conv.conv", "p 1 A")
    + dense("layers.mixer.down", f"{LAYER}.conv.out_proj", "D p")
)

LFM2: Family = family(
    "Lfm2",
    lfm2_arch,
    NAMES + MIXER,
    heads=HEADS | {"ColBERT": colbert()},
    examples=("LiquidAI/LFM2-ColBERT-350M",),
)
LFM2_BIDIRECTIONAL: Family = replace(
    LFM2,
    name="Lfm2Bidirectional",
    heads=HEADS | {"ColBERT": colbert(), "MaskedLM": MASKED_LM},
    renames=((r"^lfm2\.", "model."),),
    pool="cls",
    config="lfm2",
    examples=("LiquidAI/LFM2.5-Embedding-350M", "LiquidAI/LFM2.5-ColBERT-350M"),
)
