"""A text tower beside a vision tower: the switches and the names that such families share."""

import math

from converters.family import Head, activation, attention, dense, norm
from jaxpool.heads.pools import PoolPatches
from jaxpool.heads.steps import Dense
from jaxpool.nn.arch import Arch, Patches


def tower(config, vocab: int = 0, **switches) -> Arch:
    """What CLIP's towers, and those of SigLIP, have in common."""
    heads = config.num_attention_heads
    return Arch(
        vocab=vocab,
        layers=config.num_hidden_layers,
        dim=config.hidden_size,
        heads=heads,
        kv_heads=heads,
        head_dim=config.hidden_size // heads,
        mlp_dim=config.intermediate_size,
        placement="pre",
        norm_eps=config.layer_norm_eps,
        activation=activation(config.hidden_act),
        final_norm=True,
        **switches,
    )


def until(whole: Arch, layer: int) -> Arch:
    """A tower whose output is that of a layer, counted from the end (-1), without the last norm.

    ValueError for other numbers than those of its layers.
    """
    if type(layer) is not int or not -whole.layers <= layer < 0:
        raise ValueError(
            f"config.json: the layer of the vision tower that is read must be between "
            f"{-whole.layers} and -1, found {layer}"
        )
    return whole.replace(layers=whole.layers + 1 + layer, final_norm=False)


def after(layers: int, layer: int) -> tuple[str, ...]:
    """Patterns of a tower's tensors that come after the layer that `until` reads."""
    numbers = "|".join(map(str, range(layers + 1 + layer, layers)))
    return (rf"\.encoder\.layers\.({numbers})\.", r"\.post_layernorm\.")


def alone(names: str) -> str:
    """The lines of a vision tower as those of a model that has no other."""
    return "".join(f"{line.removeprefix('vision.')}\n" for line in names.splitlines())


def image_classifier(*kinds: str) -> Head:
    """A linear layer on what is pooled of a picture: "mean" of its patches, "cls"."""

    def steps(config, arch: Arch) -> tuple:
        pool = PoolPatches(kinds, arch.before_patches)
        return pool, Dense("classifier", pool.width(arch.dim), config.num_labels)

    return Head("classify", steps, dense("heads.classifier", "classifier"))


def text_tower(config, **switches) -> Arch:
    """A text tower with learned positions."""
    length = config.max_position_embeddings
    return tower(config, config.vocab_size, positions=length, max_length=length, **switches)


def patches_of(config) -> int:
    """How many patches a vision tower of fixed resolution cuts a picture into."""
    size, side = config.image_size, config.patch_size
    sizes = [size, size] if isinstance(size, int) else size
    return math.prod(s // side for s in sizes)


def vision_arch(config, **switches) -> Arch:
    """SigLIP's vision tower."""
    vision = config.vision_config
    length = patches_of(vision)
    patches = Patches(vision.patch_size)
    return tower(vision, patches=patches, positions=length, max_length=length, **switches)


def layers(ours: str, theirs: str) -> str:
    """The table lines of a tower's layers, ours under a path."""
    layer = f"{theirs}.encoder.layers.{{L}}"
    lines = (
        attention(f"{layer}.self_attn", "q_proj", "k_proj", "v_proj", "out_proj")
        + norm("layers.attention_norm", f"{layer}.layer_norm1")
        + norm("layers.mlp_norm", f"{layer}.layer_norm2")
        + dense("layers.mlp.up", f"{layer}.mlp.fc1", "F D")
        + dense("layers.mlp.down", f"{layer}.mlp.fc2", "D F")
    )
    return "".join(f"{ours}{line}\n" for line in lines.splitlines())


TEXT = (
    """
embed.token.embedding     text_model.embeddings.token_embedding.weight     V E
embed.position.embedding  text_model.embeddings.position_embedding.weight  P E
"""
    + layers("", "text_model")
    + norm("norm", "text_model.final_layer_norm")
)
VISION = layers("vision.", "vision_model") + norm("vision.norm", "vision_model.post_layernorm")
POSITIONS = (
    "vision.embed.position.embedding vision_model.embeddings.position_embedding.weight P E\n"
)
PATCHES = """
vision.embed.patch.kernel  vision_model.embeddings.patch_embedding.weight  E c h w
vision.embed.patch.bias    vision_model.embeddings.patch_embedding.bias    E
"""
PICTURES = VISION + POSITIONS + PATCHES  # of SigLIP
# A temperature for scores, of no use to embeddings, and counters that old files hold.
IGNORED = (r"^logit_(scale|bias)$", r"\.position_ids$")
