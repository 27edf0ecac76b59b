"""How preprocessor_config.json says that pictures are cut into tiles."""

from collections.abc import Mapping

from converters.image_fields import whole, wrong
from jaxpool.images.tilings import BestSize, NearestAspect, PaddedRows, Tiling, WholeTiles

MOST_TILES = 2**6


def tiling(facts: Mapping) -> Tiling | None:
    """The rule that the fields of a kind ask for; None for pictures that stay whole."""
    if "max_image_size" in facts:
        return _whole_tiles(facts)
    if "max_input_tiles" in facts:
        return _nearest_aspect(facts)
    if "image_grid_pinpoints" in facts:
        return _best_size(facts)
    if "num_crops" in facts:
        side, tiles = whole("image_size", facts["image_size"]), facts["num_crops"]
        return PaddedRows(side, whole("num_crops", tiles, MOST_TILES))
    return None


def _whole_tiles(facts: Mapping) -> WholeTiles:
    match facts["max_image_size"]:
        case {"longest_edge": side}:
            return WholeTiles(whole("max_image_size", side), bool(facts["do_image_splitting"]))
    raise wrong("max_image_size", "longest_edge", facts["max_image_size"])


def _nearest_aspect(facts: Mapping) -> NearestAspect:
    """NVIDIA's, whose fields lie in processor_config.json."""
    if facts["norm_type"] != "siglip":
        raise wrong("norm_type", "siglip", facts["norm_type"])
    return NearestAspect(
        whole("image_size", facts.get("force_image_size", facts["image_size"])),
        whole("max_input_tiles", facts["max_input_tiles"], MOST_TILES),
        split=bool(facts["dynamic_image_size"]),
        whole=bool(facts["use_thumbnail"]),
    )


def _best_size(facts: Mapping) -> BestSize:
    """LLaVA-NeXT's, whose tiles are of one size before and after the crop."""
    side, points = _side(facts, "size"), facts["image_grid_pinpoints"]
    if _side(facts, "crop_size") != side:
        raise wrong("crop_size", f"squares as `size` has them, {side}", facts["crop_size"])
    most = side * MOST_TILES
    try:
        sizes = tuple((height, width) for height, width in points)
    except (TypeError, ValueError):
        sizes = ()
    known = [type(x) is int and 0 < x <= most and x % side == 0 for point in sizes for x in point]
    if not known or not all(known) or max(h * w for h, w in sizes) > MOST_TILES * side**2:
        raise wrong("image_grid_pinpoints", f"heights and widths in multiples of {side}", points)
    return BestSize(side, sizes)


def _side(facts: Mapping, name: str) -> int:
    """The side of the squares that a field asks for."""
    given = facts[name]
    sides = list(given.values()) if isinstance(given, Mapping) else [given]
    if not sides or any(side != sides[0] for side in sides):
        raise wrong(name, "the side of a square", given)
    return whole(name, sides[0])
