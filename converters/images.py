"""preprocessor_config.json and processor_config.json: how pictures become patches."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.heads.rerankers import own_name
from converters.other_images import other_processor
from converters.report import CheckpointError
from jaxpool.errors import RequestError
from jaxpool.images.processor import Processor
from jaxpool.images.resize import Exact, LongestEdge, PatchBudget, PixelBudget, Rule, ShortestEdge
from jaxpool.images.tiles import Tiling
from jaxpool.nn.arch import Arch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
LANCZOS, BILINEAR, BICUBIC = 1, 2, 3

MOST_SIDE, MOST_PATCHES = 2**13, 2**16  # of a picture as a model takes it

# By the name of the model: the pixels of an image, by the code on its card.
PIXELS: dict[str, dict[str, int]] = {
    "^qwen3-vl-embedding": {"min_pixels": 4 * 32**2, "max_pixels": 1800 * 32**2},
    "^gme-qwen2-vl": {"min_pixels": 256 * 28**2, "max_pixels": 1280 * 28**2},
    "^dse-qwen2": {"min_pixels": 28**2, "max_pixels": 2560 * 28**2},
    "^vdr-2b-multi": {"min_pixels": 28**2, "max_pixels": 768 * 28**2},
    "^jina-reranker-m0": {"min_pixels": 4 * 28**2, "max_pixels": 768 * 28**2},
}
NO_LIMITS: dict[str, Any] = {"min_pixels": None, "max_pixels": None}
# By the name of the processor's class: the fields that files may omit, and its rule of the size.
Kind = tuple[Mapping[str, Any], Callable[[Mapping], Rule]]


def _fixed(facts: Mapping) -> Rule:
    """The rule of `size`: one length is that of the shorter side."""
    size = facts["size"]
    match {"shortest_edge": size} if isinstance(size, int) else size:
        case {"height": height, "width": width}:
            return Exact(_whole("height", height), _whole("width", width))
        case {"shortest_edge": edge, **rest} if not any(rest.values()):
            return ShortestEdge(_whole("shortest_edge", edge))
    raise CheckpointError(
        f"preprocessor_config.json: size must have height and width, or shortest_edge; found {size}"
    )


def _pixels(facts: Mapping) -> Rule:
    """The rule of `size` where its edges are numbers of pixels, also called by these names."""
    size = facts["size"]
    if not isinstance(size, Mapping):
        raise _wrong("size", "shortest_edge and longest_edge, numbers of pixels", size)
    side = _whole("patch_size", facts["patch_size"], 2**8)
    pixels = MOST_PATCHES * side**2
    least = facts.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge")
    most = facts.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge")
    return PixelBudget(
        side * _whole("merge_size", facts["merge_size"], 2**4),
        _whole("shortest_edge", least, pixels),
        _whole("longest_edge", most, pixels),
    )


def _longest(facts: Mapping) -> Rule:
    """The rule of `size`, the length of the longer side."""
    match facts["size"]:
        case {"longest_edge": edge, **rest} if not any(rest.values()):
            return LongestEdge(_whole("longest_edge", edge))
    raise _wrong("size", "longest_edge", facts["size"])


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
            _whole("patch_size", facts["patch_size"], 2**8),
            _whole("max_num_patches", facts["max_num_patches"], MOST_PATCHES),
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
    nested = read_json(folder / "processor_config.json", default={}).get("image_processor")
    own = nested or read_json(folder / "preprocessor_config.json", default={})
    name = own.get("image_processor_type") or own.get("feature_extractor_type")
    if name and not isinstance(name, str):
        raise _wrong("image_processor_type", "a name", name)
    kind = _kind(name) if name else kind
    if kind not in KINDS:
        return other_processor(folder, name or kind, patch, asked or {})
    defaults, rule = KINDS[kind]
    given = own | dict(asked or {})
    facts = {**defaults, **{key: value for key, value in given.items() if value is not None}}
    if rule is _pixels and facts["patch_size"] != patch:
        raise _wrong("patch_size", f"{patch}, the tower's", facts["patch_size"])
    plain = not facts.get("do_normalize", True)
    return Processor(
        patch=patch,
        resize=rule(facts) if facts.get("do_resize", True) else None,
        crop=_crop(facts.get("crop_size")) if facts.get("do_center_crop") else None,
        resample=_whole("resample", facts["resample"], 5, least=0),
        merge=_whole("merge_size", facts.get("merge_size", merge), 2**4),
        tiles=_tiles(facts),
        scale=_scale(facts.get("rescale_factor", 1 / 255))
        if facts.get("do_rescale", True)
        else 1.0,
        mean=(0.0,) * 3 if plain else _channels("image_mean", facts["image_mean"]),
        std=(1.0,) * 3 if plain else _channels("image_std", facts["image_std"]),
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
            return _whole("crop_size", height), _whole("crop_size", width)
    raise _wrong("crop_size", "height and width", size)


def _tiles(facts: Mapping) -> Tiling | None:
    if "max_image_size" not in facts:
        return None
    match facts["max_image_size"]:
        case {"longest_edge": side}:
            return Tiling(_whole("max_image_size", side), bool(facts["do_image_splitting"]))
    raise _wrong("max_image_size", "longest_edge", facts["max_image_size"])


def _whole(name: str, value: Any, most: int = MOST_SIDE, least: int = 1) -> int:
    """A whole number that a model may want, before anything of its size is made."""
    if type(value) is not int or not least <= value <= most:
        raise _wrong(name, f"{least} to {most}", value)
    return value


def _scale(value: Any) -> float:
    return _channels("rescale_factor", value)[0]


def _channels(name: str, value: Any) -> tuple[float, ...]:
    """A number for each channel, of one for all or of a list."""
    found = value if isinstance(value, list | tuple) else [value] * 3
    if len(found) != 3 or not all(isinstance(x, int | float) and abs(x) < 1e9 for x in found):
        raise _wrong(name, "a number or one for each of three channels", value)
    return tuple(map(float, found))


def _wrong(name: str, wanted: str, found: Any) -> CheckpointError:
    return CheckpointError(
        f"preprocessor_config.json: {name} must be {wanted}, found {str(found)[:100]}"
    )
