"""gpt-oss and the encoder made of its parts: windows, sinks and experts that stop growing."""

from dataclasses import replace

from converters.families.decoder import (
    arch,
    attention_names,
    decoder_names,
    family,
    token_score,
)
from converters.family import Family, dense
from converters.rotary import rotary
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture

ALPHA = 1.702  # of the sigmoid in "gelu_quick"


def gpt_oss_arch(config, **switches) -> Arch:
    """gpt-oss: every second layer has a window; the gates of experts end at a limit."""
    if config.swiglu_alpha != ALPHA:
        found = config.swiglu_alpha
        raise ValueError(f"config.json: swiglu_alpha must be {ALPHA}, found {found}")
    return arch(
        config,
        sinks=True,
        activation="gelu_quick",
        experts=config.num_local_experts,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.intermediate_size,
        norm_experts=True,
        mixture=Mixture(bias=True, limit=config.swiglu_limit),
        **switches,
    )


def privacy_filter_arch(config) -> Arch:
    """The window counts the tokens on each side; neighbouring features turn together."""
    return gpt_oss_arch(
        config,
        causal=False,
        windows=(config.sliding_window,) * config.num_hidden_layers,
        rotary=(replace(rotary(config), interleaved=True),),
    )


EXPERTS = """
layers.attention.sink.bias         layers.{L}.self_attn.sinks                 N
layers.experts.{gate,up}.kernel    layers.{L}.mlp.experts.gate_up_proj        X D (W|W)
layers.experts.{gate,up}.bias      layers.{L}.mlp.experts.gate_up_proj_bias   X (W|W)
layers.experts.down.kernel         layers.{L}.mlp.experts.down_proj           X W D
layers.experts.down.bias           layers.{L}.mlp.experts.down_proj_bias      X D
"""
NAMES = (
    decoder_names(attention=attention_names("layers.{L}.self_attn"), mlp="")
    + dense("layers.experts.router", "layers.{L}.mlp.router", "X D")
    + EXPERTS
)
# A gate and what it gates lie side by side.
GPT_OSS: Family = family(
    "GptOss", gpt_oss_arch, NAMES.replace("(W|W)", "(W [1|1])"), examples=("openai/gpt-oss-20b",)
)
OPENAI_PRIVACY_FILTER: Family = family(
    "OpenAIPrivacyFilter",
    privacy_filter_arch,
    NAMES,
    heads={"TokenClassification": token_score()},
    pool="mean",
    examples=("openai/privacy-filter",),
)
