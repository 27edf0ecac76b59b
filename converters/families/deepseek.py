"""DeepSeek-V2 and V3, and decoders with their latent heads; causal and bidirectional."""

from dataclasses import replace

from converters.families.decoder import family
from converters.families.latent import (
    CORRECTION,
    EXPERTS,
    corrected,
    experts,
    in_pairs,
    latent_heads,
    latent_names,
)
from converters.family import Family
from converters.rotary import rotary
from jaxpool.nn.arch import Arch


def deepseek_v2_arch(config) -> Arch:
    """DeepSeek-V2: experts are scored against one another, and groups by their best."""
    sparse = tuple(i >= config.first_k_dense_replace for i in range(config.num_hidden_layers))
    groups = {}
    if config.topk_method == "group_limited_greedy":
        groups = dict(groups=config.n_group, best_groups=config.topk_group, leaders=1)
    elif config.topk_method != "greedy":
        raise ValueError(f"config.json: topk_method {config.topk_method!r} is unknown")
    table = replace(rotary(config), interleaved=True)
    return latent_heads(config, rotary=(table,), **experts(config, sparse, **groups))


def deepseek_arch(config) -> Arch:
    """DeepSeek-V3: some of the first layers have no experts."""
    return latent_heads(config, rotary=in_pairs(config), **corrected(config))


def glm4_moe_lite_arch(config) -> Arch:
    """GLM-4.7-Flash: the layers with experts are named."""
    sparse = tuple(kind == "sparse" for kind in config.mlp_layer_types)
    return latent_heads(config, rotary=in_pairs(config), **corrected(config, sparse))


def minicpm3_arch(config) -> Arch:
    """MiniCPM3: factors on embeddings and branches; halves of the turning features turn."""
    return latent_heads(
        config,
        embed_scale=float(config.scale_emb),
        residual_scale=config.scale_depth / config.num_hidden_layers**0.5,
    )


def youtu_arch(config) -> Arch:
    """Youtu-LLM: no experts."""
    return latent_heads(config, rotary=in_pairs(config))


def v2_names(config) -> str:
    """The table of experts that nothing corrects."""
    return latent_names(config) + EXPERTS


def v3_names(config) -> str:
    """The same with corrections."""
    return v2_names(config) + CORRECTION


DEEPSEEK_V2: Family = family(
    "DeepseekV2", deepseek_v2_arch, v2_names, examples=("deepseek-ai/DeepSeek-V2-Lite",)
)
DEEPSEEK_V3: Family = family(
    "DeepseekV3", deepseek_arch, v3_names, examples=("deepseek-ai/DeepSeek-V3-0324",)
)
DEEPSEEK_V3_BIDIRECTIONAL: Family = replace(
    DEEPSEEK_V3,
    name="DeepseekV3Bidirectional",
    pool="mean",
    config="deepseek_v3",
    examples=("ai-sage/Giga-Embeddings-instruct-10B-A1.8B-0826",),
)
GLM4_MOE_LITE: Family = family(
    "Glm4MoeLite", glm4_moe_lite_arch, v3_names, examples=("zai-org/GLM-4.7-Flash",)
)
MINICPM3: Family = family(
    "MiniCPM3", minicpm3_arch, latent_names, examples=("openbmb/MiniCPM3-4B",)
)
YOUTU: Family = family("Youtu", youtu_arch, latent_names, examples=("tencent/Youtu-LLM-2B",))
