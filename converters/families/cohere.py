"""Cohere's Command, Phi and StableLM: LayerNorm, and the MLP may read what attention reads."""

from dataclasses import replace

from converters.families.decoder import (
    BOTH_NORMS,
    NORMS,
    arch,
    attention_names,
    decoder_names,
    family,
    mlp_names,
)
from converters.rotary import rotary
from jaxpool.nn.arch import Arch, Rotary


def cohere_arch(config) -> Arch:
    """Command R: norms without biases, neighbouring features turn; heads may have norms."""
    table = replace(rotary(config), interleaved=True)
    kind = "heads_layer" if config.knows("use_qk_norm") and config.use_qk_norm else "none"
    facts = dict(norm="layer", norm_bias=False, parallel=True, qk_norm=kind)
    return arch(config, rotary=(table,), **facts)


def cohere2_arch(config) -> Arch:
    """Command R7B and A: layers without windows have no positions."""
    base = cohere_arch(config)
    none = Rotary(theta=1.0, dim=0, interleaved=True)
    layers = tuple(0 if kind == "sliding_attention" else 1 for kind in config.layer_types)
    return base.replace(rotary=(*base.rotary, none), rotary_layers=layers)


def phi_arch(config) -> Arch:
    """Phi-1 to Phi-2: biases everywhere, no gate; a part of each head turns."""
    bias = dict.fromkeys(("qkv_bias", "out_bias", "mlp_bias"), True)
    kind = "head_layer" if config.qk_layernorm else "none"
    facts = dict(norm="layer", parallel=True, gated=False, qk_norm=kind)
    return arch(config, rotary=(rotary(config, partial=True),), **facts, **bias)


def stablelm_arch(config) -> Arch:
    """StableLM: a part of each head turns; the 12B model's branches are parallel."""
    return arch(
        config,
        norm="layer",
        parallel=config.use_parallel_residual,
        qk_norm="heads_layer" if config.qk_layernorm else "none",
        rotary=(rotary(config, partial=True),),
        qkv_bias=config.use_qkv_bias,
        out_bias=False,
    )


BLOCK = "layers.{L}.self_attn"
ONE_NORM = {BOTH_NORMS: "input_layernorm"}
COHERE_NAMES = decoder_names(attention_names(BLOCK, "N H"), norms=ONE_NORM)
PHI_NAMES = decoder_names(
    attention_names(BLOCK).replace("o_proj", "dense")
    + "".join(
        f"layers.attention.{ours}_norm.{x} {BLOCK}.{name}_layernorm.{y} H\n"
        for ours, name in (("query", "q"), ("key", "k"))
        for x, y in (("scale", "weight"), ("bias", "bias"))
    ),
    mlp_names("layers.{L}.mlp", {"up": "fc1", "down": "fc2"}),
    ONE_NORM,
    last_norm="final_layernorm",
)
PHI_NAMES = "\n".join(x for x in PHI_NAMES.splitlines() if "q_norm" not in x and "k_norm" not in x)


def stablelm_names(config) -> str:
    """The table: a norm for each branch where they follow one another."""
    norms = ONE_NORM if config.use_parallel_residual else NORMS
    heads = attention_names(BLOCK)
    for name in ("q", "k"):
        letter = {"q": "N", "k": "K"}[name]
        one = f"{BLOCK}.{name}_layernorm.norms.{{{letter}}}.weight"
        heads = heads.replace(f"{BLOCK}.{name}_norm.weight", one)
    return decoder_names(heads, norms=norms)


COHERE = family("Cohere", cohere_arch, COHERE_NAMES, examples=("CohereLabs/c4ai-command-r-v01",))
COHERE2 = family("Cohere2", cohere2_arch, COHERE_NAMES, examples=("CohereLabs/command-a-03-2025",))
PHI = family("Phi", phi_arch, PHI_NAMES, examples=("microsoft/phi-2",))
STABLELM = family(
    "StableLm", stablelm_arch, stablelm_names, examples=("stabilityai/stablelm-2-1_6b",)
)
