"""preprocessor_config.json and processor_config.json: how pictures become patches."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.report import CheckpointError
from jaxpool.errors import RequestError
from jaxpool.images.processor import Processor
from jaxpool.images.resize import Exact, PatchBudget, Rule, ShortestEdge
from jaxpool.nn.arch import Arch

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
BILINEAR, BICUBIC = 2, 3

# By the name of the processor's class: the fields that files may omit, and its rule of the size.
Kind = tuple[Mapping[str, Any], Callable[[Mapping], Rule]]


def _fixed(facts: Mapping) -> Rule:
    """The rule of `size`: one length is that of the shorter side."""
    size = facts["size"]
    size = {"shortest_edge": size} if isinstance(size, int) else size
    match dict(size):
        case {"height": int(height), "width": int(width)}:
            return Exact(height, width)
        case {"shortest_edge": int(edge), **rest} if not any(rest.values()):
            return ShortestEdge(edge)
    raise CheckpointError(
        f"preprocessor_config.json: size must have height and width, or shortest_edge; found {size}"
    )


KINDS: dict[str, Kind] = {
    "CLIP": (
        {
            "size": {"shortest_edge": 224},
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "resample": BICUBIC,
            "image_mean": CLIP_MEAN,
            "image_std": CLIP_STD,
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
        lambda facts: PatchBudget(facts["patch_size"], facts["max_num_patches"]),
    ),
}


# What a caller may change of a checkpoint's files: not the scale, which the weights take in.
CHANGEABLE = frozenset(
    ("size", "crop_size", "do_center_crop", "do_resize", "resample")
    + ("max_num_patches", "min_pixels", "max_pixels")
)


def read_processor(
    folder: Path, kind: str, patch: int, asked: Mapping[str, Any] | None = None
) -> Processor:
    """The processor of a folder, `kind` where its files name none; patch: pixels of a patch's side.

    asked: fields (`CHANGEABLE`) that replace those of the files. CheckpointError where it is of an
    unknown kind, or asks for what is not known.
    """
    if unknown := sorted(set(asked or ()) - CHANGEABLE):
        raise RequestError(f"mm_processor_kwargs: {unknown}; may change: {sorted(CHANGEABLE)}")
    nested = read_json(folder / "processor_config.json", default={}).get("image_processor")
    own = nested or read_json(folder / "preprocessor_config.json", default={})
    name = own.get("image_processor_type") or own.get("feature_extractor_type")
    kind = _kind(name) if name else kind
    if kind not in KINDS:
        raise CheckpointError(f"preprocessor_config.json: {name} is not known; known: {[*KINDS]}")
    defaults, rule = KINDS[kind]
    given = own | dict(asked or {})
    facts = {**defaults, **{key: value for key, value in given.items() if value is not None}}
    crop = facts.get("crop_size") if facts.get("do_center_crop") else None
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    plain = not facts.get("do_normalize", True)
    return Processor(
        patch=patch,
        resize=rule(facts) if facts.get("do_resize", True) else None,
        crop=(crop["height"], crop["width"]) if crop else None,
        resample=facts["resample"],
        scale=facts.get("rescale_factor", 1 / 255) if facts.get("do_rescale", True) else 1.0,
        mean=(0.0,) * 3 if plain else _channels(facts["image_mean"]),
        std=(1.0,) * 3 if plain else _channels(facts["image_std"]),
    )


def find_processor(family, folder: Path, arch: Arch) -> tuple[Processor | None, Arch]:
    """The processor of a model with a vision tower, and its `Arch`, which takes in the scale."""
    tower = arch.vision
    patches = tower.patches if tower else None
    if tower is None or patches is None:
        return None, arch
    found = processor_of(family, folder, arch)
    scaled = replace(patches, scale=found.scale, mean=found.mean, std=found.std)
    return found, arch.replace(vision=tower.replace(patches=scaled))


def processor_of(
    family, folder: Path, arch: Arch, asked: Mapping[str, Any] | None = None
) -> Processor:
    """The processor of a model with a vision tower, whose patches have to be the tower's."""
    tower: Any = arch.vision
    found = read_processor(folder, family.processor, tower.patches.side, asked)
    if not tower.patches.stretched:
        _check_grid(found, tower.positions - tower.before_patches)
    return found


def _check_grid(found: Processor, patches: int) -> None:
    if found.one_size is None:
        raise CheckpointError("preprocessor_config.json: wanted one size for all, found none")
    if found.most != patches:
        raise CheckpointError(
            f"preprocessor_config.json: pictures of {found.one_size} pixels have {found.most} "
            f"patches, but the tower has {patches}"
        )


def _kind(name: str) -> str:
    """ "CLIP" of CLIPImageProcessor, CLIPImageProcessorFast, CLIPFeatureExtractor."""
    return name.partition("ImageProcessor")[0].removesuffix("FeatureExtractor")


def _channels(value: float | list[float]) -> tuple[float, ...]:
    return (float(value),) * 3 if isinstance(value, int | float) else tuple(map(float, value))
