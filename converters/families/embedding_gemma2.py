"""EmbeddingGemma 2: a bidirectional text model, alone or beside Gemma 4's vision tower.

As its card and transformers' processor say: an image stands between two tokens of its own, and a
vector is the mean of all tokens. Prompts are those of the files. Sound and video are not read.
"""

from dataclasses import replace

from converters.families.decoder import arch as decoder_arch
from converters.families.decoder import attention_names
from converters.families.gemma import SANDWICH_NAMES
from converters.families.gemma4 import NORMED, VISION, vision_arch, wide_heads
from converters.family import Family, Head
from converters.joined import under
from converters.rotary import rotary_by_layer
from jaxpool.heads.steps import Dense
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch


def text_arch(config) -> Arch:
    """Windows count the tokens of each side; layers without one have heads of another size."""
    wide = wide_heads(config)
    (full, near), kinds = rotary_by_layer(config).values()
    return decoder_arch(
        config,
        **NORMED,
        causal=False,
        embed_scale=config.hidden_size**0.5,
        windows=tuple(config.sliding_window * kind for kind in kinds),
        wide=wide,
        rotary=(replace(full, dim=wide.head_dim), near),
        rotary_layers=kinds,
        reread_dim=config.hidden_size_per_layer_input,
    )


def arch(config) -> Arch:
    """The text model, beside the tower where there is one."""
    text, vision = config.text_config, config.vision_config
    return text_arch(text).replace(vision=vision and vision_arch(vision, text.hidden_size))


ATTENTION = attention_names("layers.{L}.self_attn").replace("layers.attention", "layers.wide")
REREAD = """
layers.reread.read.kernel  ple.per_layer_model_projection.weight                   (L d) D
read_norm.scale            ple.per_layer_projection_norm.weight                    d
layers.reread.gate.kernel  layers.{L}.ple_block.per_layer_input_gate.weight        d D
layers.reread.down.kernel  layers.{L}.ple_block.per_layer_projection.weight        D d
layers.reread.norm.scale   layers.{L}.ple_block.post_per_layer_input_norm.weight   D
layers.reread.gain.scale   layers.{L}.layer_scalar                                 1
"""
TEXT = SANDWICH_NAMES + ATTENTION.translate(str.maketrans("KH", "nk")) + REREAD
PROJECTION = "heads.projection.kernel {}embedding_projection.weight O I\n"


def steps(config, arch: Arch) -> tuple:
    """A linear layer on every token."""
    text = getattr(config, "text_config", config)
    return (Dense("projection", arch.dim, text.embedding_dim, bias=False),)


EMBEDDING_GEMMA2_TEXT = Family(
    "EmbeddingGemma2Text",
    text_arch,
    TEXT,
    prefix="model.",
    heads={"Model": Head("embed", steps, PROJECTION.format(""))},
    pool="mean",
    examples=("google/embeddinggemma-2",),
)
EMBEDDING_GEMMA2 = replace(
    EMBEDDING_GEMMA2_TEXT,
    name="EmbeddingGemma2",
    arch=arch,
    names=under("language_model.", TEXT) + VISION,
    heads={"Model": Head("embed", steps, PROJECTION.format("language_model."))},
    ignored=(r"^(model\.)?(audio_tower|embed_audio|vision_tower|embed_vision)\.",),
    conversation=Conversation("<|image|>", "<|image|>", around=("<|image>", "<image|>")),
    processor="Gemma4",
)
