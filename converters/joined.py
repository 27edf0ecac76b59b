"""Models that read images among the tokens of a text: what their families share."""

from dataclasses import replace

from converters.families.decoder import arch as decoder_arch
from converters.families.decoder import attention_names, decoder_names, mlp_names
from converters.family import activation
from converters.rotary import rotary
from jaxpool.images.conversation import Conversation
from jaxpool.nn.arch import Arch, Merger, Patches, Rotary

CHAT = (
    "<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
AS_WRITTEN = Conversation(
    placeholder="<|image_pad|>", image="<|vision_start|><|image_pad|><|vision_end|>"
)


def under(theirs: str, table: str, ours: str = "") -> str:
    """A table whose names on disk, and perhaps ours, lie under others."""
    lines = (line.split(maxsplit=2) for line in table.splitlines() if line.strip())
    return "".join(f"{ours}{path} {theirs}{name} {axes}\n" for path, name, axes in lines)


def llama_names(theirs: str, embedding: str = "embed_tokens") -> str:
    """The table of a text model like Llama under a name on disk."""
    attention = attention_names("layers.{L}.self_attn")
    return under(theirs, decoder_names(attention, mlp_names("layers.{L}.mlp"), embedding=embedding))


def interleaved(sections: list[int], pairs: int) -> tuple[int, ...]:
    """The axis of each pair of features where time, row and column take turns (Qwen3-VL)."""
    return tuple(i % 3 if i < 3 * sections[i % 3] else 0 for i in range(pairs))


def blocks(sections: list[int]) -> tuple[int, ...]:
    """The axis of each pair of features where time, row and column have one block each."""
    return tuple(axis for axis, count in enumerate(sections) for _ in range(count))


def qwen_tower(vision, dim: int, patches: Patches, merger: Merger, **switches) -> Arch:
    """The vision tower of the Qwen-VL family: rows turn half of the features, columns the rest."""
    heads, features = vision.num_heads, dim // vision.num_heads
    theta = (getattr(vision, "rope_parameters", None) or {}).get("rope_theta", 10000.0)
    quarter = features // 4
    axes = (0,) * quarter + (1,) * quarter
    facts = dict(
        vocab=0,
        layers=vision.depth,
        dim=dim,
        heads=heads,
        kv_heads=heads,
        head_dim=features,
        placement="pre",
        norm_eps=1e-6,
        activation=activation(vision.hidden_act),
        rotary=(Rotary(theta, features, axes=axes, repeats=2),),
        patches=patches,
        merger=merger,
    )
    return Arch(**(facts | switches))


def qwen2_vl(config, width: int, **switches) -> Arch:
    """Qwen2 with the coordinates of images, beside a tower of `width` features."""
    text, vision = config.text_config, config.vision_config
    side = vision.spatial_merge_size
    tower = qwen_tower(
        vision,
        width,
        Patches(vision.patch_size, bias=False, frames=vision.temporal_patch_size),
        Merger(text.hidden_size, side, side**2 * width, norm="patch"),
        **switches,
    )
    sections = text.rope_parameters.get("mrope_section") or [16, 24, 24]
    turned = replace(rotary(text), axes=blocks(sections))
    return decoder_arch(text, qkv_bias=True, out_bias=False, rotary=(turned,), vision=tower)
