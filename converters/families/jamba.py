"""Jamba: Mamba beside attention without positions, experts beside MLPs."""

from converters.families.decoder import (
    HEADS,
    arch,
    attention_names,
    decoder_names,
    expert_names,
    family,
    mlp_names,
    score,
)
from converters.family import Family, dense
from jaxpool.nn.arch import Arch
from jaxpool.nn.low_rank import Mamba


def jamba_arch(config) -> Arch:
    """Jamba: which layers attend, and which have experts, repeat with periods of their own."""

    def every(period: int, offset: int) -> tuple[bool, ...]:
        return tuple(i % period == offset for i in range(config.num_hidden_layers))

    sparse = config.num_experts > 1
    return arch(
        config,
        rotary=(),
        mixer=Mamba(
            width=config.mamba_expand * config.hidden_size,
            states=config.mamba_d_state,
            rank=config.mamba_dt_rank,
            taps=config.mamba_d_conv,
            bias=config.mamba_proj_bias,
            conv_bias=config.mamba_conv_bias,
        ),
        attention_layers=every(config.attn_layer_period, config.attn_layer_offset),
        experts=config.num_experts if sparse else 0,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.intermediate_size,
        expert_layers=every(config.expert_layer_period, config.expert_layer_offset)
        if sparse
        else (),
    )


FORWARD = "layers.{L}.feed_forward"
EXPERTS = expert_names(FORWARD, "gate_proj", "up_proj", "down_proj")
MIXER = (
    dense("layers.mixer.{value,gate}", "layers.{L}.mamba.in_proj", "(p|p) D")
    + dense("layers.mixer.conv", "layers.{L}.mamba.conv1d", "p 1 A")
    + dense("layers.mixer.step", "layers.{L}.mamba.dt_proj", "p g")
    + dense("layers.mixer.down", "layers.{L}.mamba.out_proj", "D p")
    + """
layers.mixer.{time,write,read}.kernel layers.{L}.mamba.x_proj.weight       (g|i|i) p
layers.mixer.time_norm.scale          layers.{L}.mamba.dt_layernorm.weight g
layers.mixer.write_norm.scale         layers.{L}.mamba.b_layernorm.weight  i
layers.mixer.read_norm.scale          layers.{L}.mamba.c_layernorm.weight  i
layers.mixer.rate.scale               layers.{L}.mamba.A_log               p i
layers.mixer.skip.scale               layers.{L}.mamba.D                   p
"""
)
JAMBA: Family = family(
    "Jamba",
    jamba_arch,
    decoder_names(
        attention=attention_names("layers.{L}.self_attn"),
        mlp=mlp_names(FORWARD),
        norms={"attention_norm": "input_layernorm", "mlp_norm": "pre_ff_layernorm"},
        last_norm="final_layernorm",
    )
    + EXPERTS.replace(".gate.weight", ".router.weight")
    + MIXER,
    # Its classifiers are reward models, whose logits stay as they are.
    heads=HEADS | {"SequenceClassification": score()._replace(defaults={"use_activation": False})},
    examples=("ai21labs/Jamba-tiny-reward-dev",),
)
