"""Granite's mixtures of experts, and Granite 4 without Mamba: its factors, fused products."""

from converters.families.decoder import attention_names, decoder_names, family
from converters.families.llama import granite_arch
from converters.family import dense
from jaxpool.nn.arch import Arch
from jaxpool.nn.records import Mixture


def moe_arch(config) -> Arch:
    """Experts in every layer, as wide as `intermediate_size`; an MLP beside them if it has one."""
    shared = config.shared_intermediate_size if config.knows("shared_intermediate_size") else 0
    return granite_arch(config).replace(
        experts=config.num_local_experts,
        experts_per_token=config.num_experts_per_tok,
        norm_experts=True,
        mixture=Mixture(shared=shared),
    )


def hybrid_arch(config) -> Arch:
    """Granite 4.0 micro, 1b and 350m: no layer has Mamba, and where there are no experts the MLP
    beside them is all."""
    other = set(config.layer_types) - {"attention", "full_attention"}
    if other:
        raise ValueError(
            f"config.json: layers of granitemoehybrid must be attention, found {sorted(other)}"
        )
    base = moe_arch(config) if config.num_local_experts else granite_arch(config)
    mlp_dim = base.mlp_dim if base.experts else config.shared_intermediate_size
    turns = config.position_embedding_type == "rope"
    return base.replace(mlp_dim=mlp_dim, rotary=base.rotary if turns else ())


MLP = "layers.{L}.shared_mlp"
EXPERTS = "layers.{L}.block_sparse_moe"
EXPERT_NAMES = f"""
layers.experts.router.kernel                {EXPERTS}.router.layer.weight  X D
layers.experts.{{gate,up}}.kernel           {EXPERTS}.input_linear.weight  X (W|W) D
layers.experts.down.kernel                  {EXPERTS}.output_linear.weight X D W
"""
SHARED_NAMES = f"""
layers.experts.shared.{{gate,up}}.kernel    {MLP}.input_linear.weight      (e|e) D
layers.experts.shared.down.kernel           {MLP}.output_linear.weight     D e
"""
MOE_NAMES = decoder_names(mlp=EXPERT_NAMES + SHARED_NAMES)
DENSE_NAMES = decoder_names(
    attention_names("layers.{L}.self_attn"),
    dense("layers.mlp.{gate,up}", f"{MLP}.input_linear", "(F|F) D")
    + dense("layers.mlp.down", f"{MLP}.output_linear", "D F"),
)
GRANITE_MOE = family(
    "GraniteMoe", moe_arch, MOE_NAMES, examples=("ibm-granite/granite-3.1-1b-a400m-instruct",)
)
GRANITE_MOE_SHARED = family(
    "GraniteMoeShared",
    moe_arch,
    MOE_NAMES,
    examples=("ibm-research/moe-7b-1b-active-shared-experts",),
)
GRANITE_HYBRID = family(
    "GraniteMoeHybrid",
    hybrid_arch,
    lambda config: MOE_NAMES if config.num_local_experts else DENSE_NAMES,
    examples=("ibm-granite/granite-4.0-micro",),
)
