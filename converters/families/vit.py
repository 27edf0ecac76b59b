"""Vision towers by themselves: ViT (arXiv 2010.11929), and the classifiers made of SigLIP's."""

from converters.family import Family, activation, attention, dense, norm
from converters.towers import (
    IGNORED,
    PICTURES,
    alone,
    image_classifier,
    patches_of,
    vision_arch,
)
from jaxpool.nn.arch import Arch, Patches


def pre_norm(config, mlp_dim: int, **switches) -> Arch:
    """The switches that ViT and its successors share."""
    heads = config.num_attention_heads
    return Arch(
        vocab=0,
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        heads=heads,
        kv_heads=heads,
        head_dim=config.hidden_size // heads,
        mlp_dim=mlp_dim,
        placement="pre",
        norm_eps=config.layer_norm_eps,
        qkv_bias=config.qkv_bias,
        final_norm=True,
        **switches,
    )


def arch(config) -> Arch:
    """Pictures of one size, behind a class token."""
    length = patches_of(config) + 1
    return pre_norm(
        config,
        config.intermediate_size,
        activation=activation(config.hidden_act),
        patches=Patches(config.patch_size, class_token=True),
        positions=length,
        max_length=length,
    )


def embeddings(path: str = "embeddings") -> str:
    """The table lines of patches, positions and the class token."""
    return (
        f"embed.position.embedding  {path}.position_embeddings  1 P E\n"
        f"embed.class.embedding  {path}.cls_token  1 1 E\n"
        + dense("embed.patch", f"{path}.patch_embeddings.projection", "E c h w")
        + norm("norm", "layernorm")
    )


LAYER = "encoder.layer.{L}"
OWN = "attention"  # its products are once more below that name
ATTENTION = attention(
    f"{LAYER}.attention", f"{OWN}.query", f"{OWN}.key", f"{OWN}.value", "output.dense"
)
NAMES = (
    embeddings()
    + ATTENTION
    + norm("layers.attention_norm", f"{LAYER}.layernorm_before")
    + norm("layers.mlp_norm", f"{LAYER}.layernorm_after")
    + dense("layers.mlp.up", f"{LAYER}.intermediate.dense", "F D")
    + dense("layers.mlp.down", f"{LAYER}.output.dense", "D F")
)
VIT = Family(
    "ViT",
    arch,
    NAMES,
    prefix="vit.",
    heads={"ImageClassification": image_classifier("cls")},
    ignored=(r"(^|\.)pooler\.", r"mask_token$"),
    processor="ViT",
    examples=("google/vit-base-patch16-224",),
)

SIGLIP_CLASSIFIER = Family(
    "Siglip",
    vision_arch,
    alone(PICTURES),
    heads={"ImageClassification": image_classifier("mean")},
    ignored=(*IGNORED, r"^vision_model\.head\."),
    processor="Siglip",
)
