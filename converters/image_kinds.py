"""Kinds of image processors, transformers' names: what their files may omit, and their sizes."""

from collections.abc import Callable, Mapping
from typing import Any

from converters.image_fields import whole, wrong
from converters.report import CheckpointError
from jaxpool.images.resize import (
    AreaBudget,
    Exact,
    LongestEdge,
    PatchBudget,
    PixelBudget,
    Rule,
    ShortestEdge,
)

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3
PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]

MOST_PATCHES = 2**16  # of a picture as a model takes it

# By the name of the processor's class: the fields that files may omit, and its rule of the size.
Kind = tuple[Mapping[str, Any], Callable[[Mapping], Rule | None]]


def _fixed(facts: Mapping) -> Rule:
    """The rule of `size`: one length is that of the shorter side."""
    size = facts["size"]
    match {"shortest_edge": size} if isinstance(size, int) else size:
        case {"height": height, "width": width}:
            return Exact(whole("height", height), whole("width", width))
        case {"shortest_edge": edge, **rest} if not any(rest.values()):
            return ShortestEdge(whole("shortest_edge", edge))
    raise CheckpointError(
        f"preprocessor_config.json: size must have height and width, or shortest_edge; found {size}"
    )


def _pixels(facts: Mapping) -> Rule:
    """The rule of `size` where its edges are numbers of pixels, also called by these names."""
    size = facts["size"]
    if not isinstance(size, Mapping):
        raise wrong("size", "shortest_edge and longest_edge, numbers of pixels", size)
    side = whole("patch_size", facts["patch_size"], 2**8)
    pixels = MOST_PATCHES * side**2
    least = facts.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge")
    most = facts.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge")
    return PixelBudget(
        side * whole("merge_size", facts["merge_size"], 2**4),
        whole("shortest_edge", least, pixels),
        whole("longest_edge", most, pixels),
    )


def _longest(facts: Mapping) -> Rule:
    """The rule of `size`, the length of the longer side."""
    match facts["size"]:
        case {"longest_edge": edge, **rest} if not any(rest.values()):
            return LongestEdge(whole("longest_edge", edge))
    raise wrong("size", "longest_edge", facts["size"])


def _tokens(facts: Mapping) -> Rule:
    """The rule of a number of tokens, each of a square of patches."""
    side, most = (whole(name, facts[name]) for name in ("pooling_kernel_size", "max_soft_tokens"))
    return AreaBudget(whole("patch_size", facts["patch_size"], 2**8), side, most)


def _jina_clip(facts: Mapping) -> dict[str, Any]:
    """The fields of jina-clip's processor under transformers' names."""
    size, mode, filters = facts["size"], facts["resize_mode"], {"bicubic": 3, "bilinear": 2}
    if mode not in ("shortest", "squash"):
        raise wrong("resize_mode", "shortest or squash", mode)
    if facts["interpolation"] not in filters:
        raise wrong("interpolation", f"one of {list(filters)}", facts["interpolation"])
    square = {"height": size, "width": size}
    cropped = {"size": {"shortest_edge": size}, "crop_size": square, "do_center_crop": True}
    return {
        "resample": filters[facts["interpolation"]],
        "image_mean": facts["mean"],
        "image_std": facts["std"],
        **(cropped if mode == "shortest" else {"size": square}),
    }


TILED: Kind = (
    {
        "size": {"longest_edge": 4 * 364},
        "max_image_size": {"longest_edge": 364},
        "do_image_splitting": True,
        "resample": LANCZOS,
        "image_mean": HALF,
        "image_std": HALF,
    },
    _longest,
)
# NVIDIA's processors of text and images, which may have more tiles of a page than of a pair's.
NEMOTRON: dict[str, Any] = {
    "image_size": 512,
    "max_input_tiles": 6,
    "dynamic_image_size": True,
    "use_thumbnail": True,
    "norm_type": "siglip",
    "resample": BICUBIC,
    "image_mean": HALF,
    "image_std": HALF,
}
CROPPED: Kind = (
    {
        "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "resample": BICUBIC,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
    _fixed,
)
KINDS: dict[str, Kind] = {
    "CLIP": CROPPED,
    "Bit": CROPPED,
    "Idefics3": TILED,
    "LlamaNemotronVL": (NEMOTRON, lambda facts: None),
    "LlavaNext": (
        {
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "image_grid_pinpoints": PINPOINTS,
            "resample": BICUBIC,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        },
        lambda facts: None,
    ),
    "Phi3V": (
        {
            "image_size": 336,
            "num_crops": 1,
            "resample": BILINEAR,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        },
        lambda facts: None,
    ),
    "LlamaNemotronVLRerank": (NEMOTRON | {"max_input_tiles": 2}, lambda facts: None),
    "SmolVLM": TILED,
    "ViT": (
        {
            "size": {"height": 224, "width": 224},
            "resample": BILINEAR,
            "image_mean": HALF,
            "image_std": HALF,
        },
        _fixed,
    ),
    "Siglip": (
        {
            "size": {"height": 224, "width": 224},
            "resample": BICUBIC,
            "image_mean": HALF,
            "image_std": HALF,
        },
        _fixed,
    ),
    "Siglip2": (
        {
            "patch_size": 16,
            "max_num_patches": 256,
            "resample": BILINEAR,
            "image_mean": HALF,
            "image_std": HALF,
        },
        lambda facts: PatchBudget(
            whole("patch_size", facts["patch_size"], 2**8),
            whole("max_num_patches", facts["max_num_patches"], MOST_PATCHES),
        ),
    ),
    "Qwen2VL": (
        {
            "patch_size": 14,
            "merge_size": 2,
            "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
            "resample": BICUBIC,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
        },
        _pixels,
    ),
    "JinaCLIP": (
        {
            "size": 224,
            "mean": CLIP_MEAN,
            "std": CLIP_STD,
            "resize_mode": "shortest",
            "interpolation": "bicubic",
        },
        _fixed,
    ),
    "Gemma4": (
        {
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "max_soft_tokens": 280,
            "do_normalize": False,
            "resample": BICUBIC,
        },
        _tokens,
    ),
}
# Kinds whose fields have other names.
TRANSLATED: dict[str, Callable[[Mapping], dict[str, Any]]] = {"JinaCLIP": _jina_clip}
