"""preprocessor_config.json and processor_config.json: how pictures become patches."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.heads.rerankers import own_name
from converters.image_fields import channels, whole, wrong
from converters.other_images import other_processor
from converters.report import CheckpointError
from converters.tilings import tiling
from jaxpool.errors import RequestError
from jaxpool.images.processor import Processor
from jaxpool.images.resize import Exact, LongestEdge, PatchBudget, PixelBudget, Rule, ShortestEdge
from jaxpool.nn.arch import Arch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3

MOST_PATCHES = 2**16  # of a picture as a model takes it

# By the name of the model: the pixels or tiles of an image, by the code on its card.
PIXELS: dict[str, dict[str, int]] = {
    "^qwen3-vl-embedding": {"min_pixels": 4 * 32**2, "max_pixels": 1800 * 32**2},
    "^gme-qwen2-vl": {"min_pixels": 256 * 28**2, "max_pixels": 1280 * 28**2},
    "^dse-qwen2": {"min_pixels": 28**2, "max_pixels": 2560 * 28**2},
    "^vdr-2b-multi": {"min_pixels": 28**2, "max_pixels": 768 * 28**2},
    "^jina-reranker-m0": {"min_pixels": 4 * 28**2, "max_pixels": 768 * 28**2},
    "^llama-nemotron-(embed|rerank)-vl": {"max_input_tiles": 6},
}
NO_LIMITS: dict[str, Any] = {"min_pixels": None, "max_pixels": None}
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
}


# What a caller may change of a checkpoint's files: not the scale, which the weights take in.
CHANGEABLE = frozenset(
    ("size", "crop_size", "do_center_crop", "do_resize", "resample")
    + ("max_num_patches", "min_pixels", "max_pixels", "do_image_splitting")
    + ("max_input_tiles", "use_thumbnail", "dynamic_image_size")
)


def read_processor(
    folder: Path, kind: str, patch: int, asked: Mapping[str, Any] | None = None, merge: int = 1
) -> Processor:
    """The processor of a folder, `kind` where its files name none; patch: pixels of a patch's side.

    merge: patches of a side that become one token, where the files say nothing of it; asked: fields
    (`CHANGEABLE`) that replace those of the files. Other kinds than `KINDS` are transformers';
    CheckpointError where these cannot be used, or the files ask for the unknown.
    """
    if unknown := sorted(set(asked or ()) - CHANGEABLE):
        raise RequestError(f"mm_processor_kwargs: {unknown}; may change: {sorted(CHANGEABLE)}")
    joint = read_json(folder / "processor_config.json", default={})
    own = joint.get("image_processor") or read_json(folder / "preprocessor_config.json", default={})
    own = own or joint
    name = own.get("image_processor_type") or own.get("feature_extractor_type")
    if name and not isinstance(name, str):
        raise wrong("image_processor_type", "a name", name)
    kind = _kind(name) if name else kind
    if kind not in KINDS:
        return other_processor(folder, name or kind, patch, asked or {})
    defaults, rule = KINDS[kind]
    given = own | dict(asked or {})
    facts = {**defaults, **{key: value for key, value in given.items() if value is not None}}
    if rule is _pixels and facts["patch_size"] != patch:
        raise wrong("patch_size", f"{patch}, the tower's", facts["patch_size"])
    plain = not facts.get("do_normalize", True)
    return Processor(
        patch=patch,
        resize=rule(facts) if facts.get("do_resize", True) else None,
        crop=_crop(facts.get("crop_size")) if facts.get("do_center_crop") else None,
        resample=whole("resample", facts["resample"], 5, least=0),
        merge=whole("merge_size", facts.get("merge_size", merge), 2**4),
        tiles=tiling(facts),
        scale=_scale(facts.get("rescale_factor", 1 / 255))
        if facts.get("do_rescale", True)
        else 1.0,
        mean=(0.0,) * 3 if plain else channels("image_mean", facts["image_mean"]),
        std=(1.0,) * 3 if plain else channels("image_std", facts["image_std"]),
    )


def find_processor(family, folder: Path, arch: Arch, name: str) -> tuple[Processor | None, Arch]:
    """The processor of a model with a vision tower, and its `Arch`, which takes in the scale."""
    tower = arch.vision or arch
    if (patches := tower.patches) is None:
        return None, arch
    found = processor_of(family, folder, arch, name=name)
    scaled = replace(patches, scale=found.scale, mean=found.mean, std=found.std)
    tower = tower.replace(patches=scaled)
    return found, tower if arch.patches else arch.replace(vision=tower)


def processor_of(
    family, folder: Path, arch: Arch, asked: Mapping[str, Any] | None = None, name: str = ""
) -> Processor:
    """The processor of a model with a vision tower, whose patches have to be the tower's.

    name: what the model was asked for as; the code of some says other sizes than their files.
    """
    tower: Any = arch.vision or arch
    asked = dict(asked or {})
    given = NO_LIMITS if "size" in asked else _limits(name)  # a size that is asked for says both
    merge = tower.merger.side if tower.merger else 1
    found = read_processor(folder, family.processor, tower.patches.side, {**given, **asked}, merge)
    if tower.positions and not tower.patches.stretched:
        _check_grid(found, tower.positions - tower.before_patches)
    if not found.most:
        raise CheckpointError("preprocessor_config.json: pictures may be of any size")
    return found


def _limits(name: str) -> Mapping[str, int]:
    own = own_name(name).lower()
    return next((limits for like, limits in PIXELS.items() if re.search(like, own)), {})


def _check_grid(found: Processor, patches: int) -> None:
    if found.one_size is None:
        raise CheckpointError("preprocessor_config.json: wanted one size for all, found none")
    if found.each != patches:
        raise CheckpointError(
            f"preprocessor_config.json: pictures of {found.one_size} pixels have {found.each} "
            f"patches, but the tower has {patches}"
        )


def _kind(name: str) -> str:
    """ "CLIP" of CLIPImageProcessor, CLIPImageProcessorFast, CLIPFeatureExtractor."""
    return name.partition("ImageProcessor")[0].removesuffix("FeatureExtractor")


def _crop(size: Any) -> tuple[int, int] | None:
    match {"height": size, "width": size} if isinstance(size, int) else size:
        case None:
            return None
        case {"height": height, "width": width}:
            return whole("crop_size", height), whole("crop_size", width)
    raise wrong("crop_size", "height and width", size)


def _scale(value: Any) -> float:
    return channels("rescale_factor", value)[0]
