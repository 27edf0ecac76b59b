"""CLIP: a causal text tower and a vision tower, each with a projection (arXiv 2103.00020)."""

from dataclasses import replace

from converters.family import Family, Head, norm
from converters.towers import (
    IGNORED,
    POSITIONS,
    TEXT,
    VISION,
    alone,
    image_classifier,
    patches_of,
    text_tower,
    tower,
)
from jaxpool.heads.pools import PoolUntil
from jaxpool.heads.steps import Dense, Pool
from jaxpool.nn.arch import Arch, Patches


def vision_arch(config) -> Arch:
    """The vision tower."""
    vision = config.vision_config
    patches = Patches(vision.patch_size, bias=False, class_token=True)
    length = patches_of(vision) + 1
    return tower(vision, patches=patches, positions=length, max_length=length, embed_norm=True)


def arch(config) -> Arch:
    """Both towers."""
    return text_tower(config.text_config, causal=True, vision=vision_arch(config))


def text_steps(config, arch: Arch) -> tuple:
    """The end of text, projected. Old files name a wrong end; the right one is the last entry."""
    text = config.text_config
    end = arch.vocab - 1 if text.eos_token_id == 2 else text.eos_token_id
    project = Dense("text_projection", arch.dim, config.projection_dim, bias=False)
    return PoolUntil(("lasttoken",), end), project


def picture_steps(config, arch: Arch) -> tuple:
    """The class token, projected."""
    width = config.vision_config.hidden_size
    project = Dense("visual_projection", width, config.projection_dim, bias=False)
    return Pool(("cls",)), project


SEEN = (
    VISION
    + POSITIONS
    + """
vision.embed.patch.kernel     vision_model.embeddings.patch_embedding.weight  E c h w
vision.embed.class.embedding  vision_model.embeddings.class_embedding         E
"""
    + norm("vision.embed.norm", "vision_model.pre_layrnorm", "E")
)
PROJECTIONS = """
heads.text_projection.kernel    text_projection.weight    O I
heads.visual_projection.kernel  visual_projection.weight  O I
"""
CLIP = Family(
    "CLIP",
    arch,
    TEXT + SEEN,
    heads={"Model": Head("embed", text_steps, PROJECTIONS, pictures=picture_steps)},
    ignored=IGNORED,
    processor="CLIP",
    examples=("openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
)
# Its classifiers take the mean of the patches before the last norm, which is the class token's.
CLIP_CLASSIFIER = replace(
    CLIP,
    arch=lambda config: vision_arch(config).replace(final_norm=False),
    names=alone("".join(x for x in SEEN.splitlines(True) if not x.startswith("vision.norm."))),
    heads={"ImageClassification": image_classifier("mean")},
    ignored=(*IGNORED, r"post_layernorm\."),
    examples=(),
)
