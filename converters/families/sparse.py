"""Decoders with DeepSeek's experts and heads of their own: GLM-4.5, dots.llm1, ERNIE 4.5."""

from converters.families.decoder import arch, decoder_names, family
from converters.families.glm import ernie_arch
from converters.families.latent import CORRECTION, EXPERTS, corrected
from converters.family import require
from converters.rotary import rotary
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture


def glm4_moe_arch(config) -> Arch:
    """GLM-4.5: a part of each head turns; heads may have norms."""
    kind = "head" if config.use_qk_norm else "none"
    turned = (rotary(config, partial=True),)
    return arch(config, qk_norm=kind, rotary=turned, out_bias=False, **corrected(config))


def dots_arch(config) -> Arch:
    """dots.llm1: Qwen3's attention."""
    return arch(config, qk_norm="head", **corrected(config))


def ernie_moe_arch(config) -> Arch:
    """ERNIE 4.5: experts are scored against one another, in some of the layers."""
    require(config, use_bias=False)
    first, last, step = (
        getattr(config, f"moe_layer_{name}") for name in ("start_index", "end_index", "interval")
    )
    sparse = tuple(
        first <= layer <= last and (layer + 1) % step == 0
        for layer in range(config.num_hidden_layers)
    )
    width = config.moe_intermediate_size
    return ernie_arch(config).replace(
        experts=config.moe_num_experts,
        experts_per_token=config.moe_k,
        expert_dim=width,
        expert_layers=sparse,
        norm_experts=True,
        mixture=Mixture(corrected=True, shared=width * config.moe_num_shared_experts),
    )


NAMES = decoder_names() + EXPERTS
STATICS = CORRECTION.replace("gate.", "moe_statics.").replace(" X", " 1 X")
GLM4_MOE = family("Glm4Moe", glm4_moe_arch, NAMES + CORRECTION, examples=("zai-org/GLM-4.5-Air",))
DOTS1 = family("Dots1", dots_arch, NAMES + CORRECTION, examples=("rednote-hilab/dots.llm1.inst",))
ERNIE4_5_MOE = family(
    "Ernie4_5_Moe", ernie_moe_arch, NAMES + STATICS, examples=("baidu/ERNIE-4.5-21B-A3B-PT",)
)
