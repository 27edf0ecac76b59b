"""LFM2's mixtures of experts."""

from converters.families.decoder import expert_names, family
from converters.families.lfm2 import LAYER, MIXER, NAMES, lfm2_arch
from converters.family import Family
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture


def lfm2_moe_arch(config) -> Arch:
    """LFM2-MoE: experts behind the first `num_dense_layers`."""
    layers, plain = range(config.num_hidden_layers), config.num_dense_layers
    return lfm2_arch(config).replace(
        experts=config.num_experts,
        experts_per_token=config.num_experts_per_tok,
        expert_dim=config.moe_intermediate_size,
        expert_layers=tuple(layer >= plain for layer in layers),
        norm_experts=config.norm_topk_prob,
        mixture=Mixture(
            sigmoid=True, corrected=config.use_expert_bias, scale=config.routed_scaling_factor
        ),
    )


EXPERTS = (
    expert_names(f"{LAYER}.feed_forward", "w1", "w3", "w2")
    + f"layers.experts.correction.bias {LAYER}.feed_forward.expert_bias X\n"
)
LFM2_MOE: Family = family(
    "Lfm2Moe", lfm2_moe_arch, NAMES + MIXER + EXPERTS, examples=("LiquidAI/LFM2-8B-A1B",)
)
