"""Gemma 4's vision tower, and the heads of its text models."""

from typing import Any

from converters.families.decoder import attention_names, decoder_names, mlp_names
from converters.families.gemma import SANDWICH
from converters.family import activation, sizes
from converters.joined import under
from jaxpool.nn.arch import Arch, Merger, Patches, Rotary
from jaxpool.nn.heads import Heads

# Norms around the branches; queries, keys and values are normalized, their products not scaled.
NORMED: dict[str, Any] = dict(placement="sandwich", qk_norm="values", attention_scale=1.0)


def wide_heads(config) -> Heads:
    """The heads of layers that see all tokens; ValueError where other layers differ, or in more."""
    full = tuple(i for i, kind in enumerate(config.layer_types) if kind == "full_attention")
    found = {int(layer): facts for layer, facts in config.per_layer_config.items()}
    own = found.get(full[0], {})
    if found != dict.fromkeys(full, own) or own.keys() != {"head_dim", "num_key_value_heads"}:
        raise ValueError(
            f"config.json: per_layer_config must have one head_dim and num_key_value_heads for the "
            f"layers {full}, those of full_attention; found {found}"
        )
    return Heads(full, own["num_key_value_heads"], own["head_dim"])


def vision_arch(config, width: int) -> Arch:
    """Columns turn the first half of a head's features, rows the second.

    Each square of patches becomes a vector of a text of `width` features: their mean.
    """
    for field in ("use_clipped_linears", "standardize"):
        if getattr(config, field):
            raise ValueError(f"config.json: vision_config.{field} is not supported")
    theta, quarter = config.rope_parameters["rope_theta"], config.head_dim // 4
    axes, half = (1,) * quarter + (0,) * quarter, (0.5,) * 3
    return Arch(
        **sizes(config),
        **NORMED,
        mlp_dim=config.intermediate_size,
        norm="rms",
        norm_eps=config.rms_norm_eps,
        qkv_bias=False,
        out_bias=False,
        rotary=(Rotary(theta, config.head_dim, axes=axes, repeats=2, blocks=2),),
        gated=True,
        activation=activation(config.hidden_activation),
        mlp_bias=False,
        positions=config.position_embedding_size,
        patches=Patches(config.patch_size, bias=False, crossed=True, mean=half, std=half),
        merger=Merger(width, config.pooling_kernel_size, averaged=True, norm="plain", bias=False),
    )


LAYER = "encoder.layers.{L}"
LAYERS = decoder_names(
    attention_names(f"{LAYER}.self_attn"), mlp_names(f"{LAYER}.mlp"), SANDWICH, layer=LAYER
).replace("_proj.", "_proj.linear.")
EMBEDDINGS = """
embed.patch.kernel        patch_embedder.input_proj.weight          E (h w c)
embed.position.embedding  patch_embedder.position_embedding_table   l P E
"""
MERGER = "vision.merger.out.kernel embed_vision.embedding_projection.weight t m\n"
VISION = under("vision_tower.", LAYERS + EMBEDDINGS, "vision.") + MERGER
