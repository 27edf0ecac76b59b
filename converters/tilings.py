"""How preprocessor_config.json says that pictures are cut into tiles."""

from collections.abc import Mapping

from converters.image_fields import whole, wrong
from jaxpool.images.tilings import NearestAspect, Tiling, WholeTiles

MOST_TILES = 2**6


def tiling(facts: Mapping) -> Tiling | None:
    """The rule that the fields of a kind ask for; None for pictures that stay whole."""
    if "max_image_size" in facts:
        return _whole_tiles(facts)
    if "max_input_tiles" in facts:
        return _nearest_aspect(facts)
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
