"""preprocessor_config.json and processor_config.json: how pictures become patches."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.files.folder import read_json
from converters.heads.rerankers import own_name
from converters.image_fields import channels, whole, wrong
from converters.image_kinds import KINDS, TRANSLATED
from converters.other_images import other_processor
from converters.report import CheckpointError
from converters.tilings import tiling
from jaxpool.errors import RequestError
from jaxpool.images.processor import Processor
from jaxpool.nn.arch import Arch

# By the name of the model: the pixels or tiles of an image, by the code on its card.
PIXELS: dict[str, dict[str, int]] = {
    "^qwen3-vl-embedding": {"min_pixels": 4 * 32**2, "max_pixels": 1800 * 32**2},
    "^gme-qwen2-vl": {"min_pixels": 256 * 28**2, "max_pixels": 1280 * 28**2},
    "^dse-qwen2": {"min_pixels": 28**2, "max_pixels": 2560 * 28**2},
    "^vdr-2b-multi": {"min_pixels": 28**2, "max_pixels": 768 * 28**2},
    "^jina-reranker-m0": {"min_pixels": 4 * 28**2, "max_pixels": 768 * 28**2},
    "^llama-nemotron-(embed|rerank)-vl": {"max_input_tiles": 6},
    "^vlm2vec-full": {"num_crops": 4},  # of training and evaluation; the authors' demo has 16
}
NO_LIMITS: dict[str, Any] = {"min_pixels": None, "max_pixels": None}

# What a caller may change of a checkpoint's files: not the scale, which the weights take in.
CHANGEABLE = frozenset(
    ("size", "crop_size", "do_center_crop", "do_resize", "resample")
    + ("max_num_patches", "min_pixels", "max_pixels", "do_image_splitting", "max_soft_tokens")
    + ("max_input_tiles", "use_thumbnail", "dynamic_image_size", "num_crops")
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
    given = {key: x for key, x in (own | dict(asked or {})).items() if x is not None}
    facts = TRANSLATED.get(kind, dict)({**defaults, **given})
    for field, own_side in (("patch_size", patch), ("pooling_kernel_size", merge)):
        if field in defaults and facts[field] != own_side:
            raise wrong(field, f"{own_side}, the tower's", facts[field])
    plain = not facts.get("do_normalize", True)
    return Processor(
        patch=patch,
        resize=rule(facts) if facts.get("do_resize", True) else None,
        crop=_crop(facts.get("crop_size")) if facts.get("do_center_crop") else None,
        even=kind in TRANSLATED,  # torchvision's crop
        resample=whole("resample", facts["resample"], 5, least=0),
        merge=whole("merge_size", facts.get("merge_size", merge), 2**4),
        tiles=tiling(facts),
        scale=_scale(facts),
        mean=(0.0,) * 3 if plain else channels("image_mean", facts["image_mean"]),
        std=(1.0,) * 3 if plain else channels("image_std", facts["image_std"]),
    )


def find_processor(family, folder: Path, arch: Arch, name: str) -> tuple[Processor | None, Arch]:
    """The processor of a model with a vision tower, and its `Arch`, which takes in the scale."""
    tower = arch.vision or arch
    if (patches := tower.patches) is None:
        return None, arch
    found = processor_of(family, folder, arch, name=name)
    # A tower may shift and stretch once more what the processor gives.
    mean, std = _composed((found.mean, found.std), (patches.mean, patches.std))
    scaled = replace(patches, scale=found.scale, mean=mean, std=std)
    tower = tower.replace(patches=scaled)
    return found, tower if arch.patches else arch.replace(vision=tower)


def _composed(first: tuple, then: tuple) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and deviation of two normalizations, one after the other."""
    (mean, std), (shift, stretch) = first, then
    means = tuple(a + b * c for a, b, c in zip(mean, std, shift, strict=True))
    return means, tuple(a * b for a, b in zip(std, stretch, strict=True))


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
    if tower.positions and not tower.patches.placed:
        _check_grid(found, tower.positions - tower.before_patches)
    if tower.patches.crossed and found.longest > tower.positions:
        raise CheckpointError(
            f"preprocessor_config.json: pictures may be {found.longest} patches long, but the "
            f"tower has {tower.positions} positions"
        )
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


def _scale(facts: Mapping) -> float:
    rescaled = facts.get("do_rescale", True)
    return channels("rescale_factor", facts.get("rescale_factor", 1 / 255))[0] if rescaled else 1.0
