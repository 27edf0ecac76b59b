"""DINOv2 (arXiv 2304.07193), and with registers (arXiv 2309.16588): vision towers by themselves."""

from dataclasses import replace

from converters.families.vit import ATTENTION, LAYER, embeddings, pre_norm
from converters.family import Family, activation, dense, norm
from converters.towers import image_classifier, patches_of
from jaxpool.nn.arch import Arch, Patches


def arch(config) -> Arch:
    """The table of positions is stretched over each picture; those of registers have none."""
    registers = getattr(config, "num_register_tokens", 0)
    patches = Patches(
        config.patch_size,
        class_token=True,
        registers=registers,
        stretched=True,
        cubic="smooth" if registers else "sharp",
    )
    length = patches_of(config) + 1
    gated = config.use_swiglu_ffn
    features = int(config.hidden_size * config.mlp_ratio)
    return pre_norm(
        config,
        (int(features * 2 / 3) + 7) // 8 * 8 if gated else features,
        gated=gated,
        activation="silu" if gated else activation(config.hidden_act),
        layer_scale=True,
        patches=patches,
        positions=length,
        max_length=length + registers,
    )


def names(config) -> str:
    """The table; the largest size has a gated MLP."""
    if config.use_swiglu_ffn:
        mlp = (
            f"layers.mlp.{{gate,up}}.kernel  {LAYER}.mlp.weights_in.weight  (F|F) D\n"
            f"layers.mlp.{{gate,up}}.bias  {LAYER}.mlp.weights_in.bias  (F|F)\n"
        ) + dense("layers.mlp.down", f"{LAYER}.mlp.weights_out", "D F")
    else:
        mlp = dense("layers.mlp.up", f"{LAYER}.mlp.fc1", "F D")
        mlp += dense("layers.mlp.down", f"{LAYER}.mlp.fc2", "D F")
    gains = "".join(
        f"layers.{part}_gain.scale  {LAYER}.layer_scale{i}.lambda1  D\n"
        for i, part in ((1, "attention"), (2, "mlp"))
    )
    norms = norm("layers.attention_norm", f"{LAYER}.norm1") + norm(
        "layers.mlp_norm", f"{LAYER}.norm2"
    )
    return embeddings() + ATTENTION + gains + norms + mlp


def names_with_registers(config) -> str:
    """The same, with the registers."""
    return names(config) + "embed.register.embedding  embeddings.register_tokens  1 s E\n"


DINOV2 = Family(
    "Dinov2",
    arch,
    names,
    prefix="dinov2.",
    heads={"ImageClassification": image_classifier("cls", "mean")},
    ignored=(r"mask_token$",),
    processor="Bit",
    examples=("facebook/dinov2-small", "facebook/dinov2-base"),
)
DINOV2_WITH_REGISTERS = replace(
    DINOV2,
    name="Dinov2WithRegisters",
    names=names_with_registers,
    prefix="dinov2_with_registers.",
    examples=("facebook/dinov2-with-registers-base",),
)
