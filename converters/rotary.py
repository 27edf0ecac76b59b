"""Rotary position tables from the `rope_parameters` of a transformers configuration."""

import math
from collections.abc import Mapping

from converters.family import features
from jaxpool.nn.arch import Rotary


def rotary(config, parameters: dict | None = None, partial: bool = False) -> Rotary:
    """The table of a configuration, or of one entry of its per-layer-type `rope_parameters`.

    partial: whether the architecture can turn some of the features alone; elsewhere the field is a
    stray, which transformers ignores too. Raises `ValueError` for an unknown rope type, an odd
    number of turning features and factors of the wrong number.
    """
    rope = parameters or config.rope_parameters
    kind = rope.get("rope_type") or "default"
    if kind not in LAWS:
        raise ValueError(
            f"config.json: rope_parameters.rope_type {kind!r} is unknown; known: {sorted(LAWS)}"
        )
    dim = int(features(config) * (rope.get("partial_rotary_factor", 1.0) if partial else 1.0))
    if dim % 2:
        raise ValueError(f"config.json: rope_parameters turn an odd number of features: {dim}")
    try:
        table = Rotary(float(rope["rope_theta"]), dim, **LAWS[kind](config, rope))
    except KeyError as error:
        raise ValueError(
            f"config.json: rope_parameters of rope_type {kind!r} have no field {error}"
        ) from error
    for field in ("short", "long") if kind == "longrope" else ():
        if (found := len(getattr(table, field))) != dim // 2:
            raise ValueError(
                f"config.json: rope_parameters.{field}_factor must have {dim // 2} numbers, one a "
                f"pair of features, found {found}"
            )
    return table


def rotary_by_layer(config) -> dict:
    """The switches `rotary` and `rotary_layers` where full and sliding layers turn differently."""
    kinds = ("full_attention", "sliding_attention")
    return {
        "rotary": tuple(rotary(config, config.rope_parameters[kind]) for kind in kinds),
        "rotary_layers": tuple(kinds.index(kind) for kind in config.layer_types),
    }


def stretched(present: dict, given: Mapping) -> dict:
    """Rotary parameters under an override, which may name its law by the older key `type`.

    Where layers differ, an override that does not is meant for those with full attention.
    """
    if "full_attention" in present and "full_attention" not in given:
        return present | {"full_attention": stretched(present["full_attention"], given)}
    return {**present, **({"rope_type": given["type"]} if "type" in given else {}), **given}


def reach(config) -> int:
    """The most tokens that positions allow: the trained length times the scaling factor."""
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get("full_attention") or rope
    kind, factor = rope.get("rope_type"), rope.get("factor")
    if kind not in ("linear", "dynamic", "yarn") or not factor:
        return config.max_position_embeddings
    trained = _original(config, rope) if kind == "yarn" else config.max_position_embeddings
    return int(trained * factor)


def _original(config, rope: dict) -> int:
    return rope.get("original_max_position_embeddings") or config.max_position_embeddings


def _linear(config, rope: dict) -> dict:
    return {"scaling": "linear", "factor": float(rope["factor"])}


def _dynamic(config, rope: dict) -> dict:
    length = config.max_position_embeddings
    return {"scaling": "dynamic", "factor": float(rope["factor"]), "original_length": length}


def _ntk(config, rope: dict) -> dict:
    if rope.get("mixed_b") is not None:
        raise ValueError("config.json: rope_scaling.mixed_b is not supported")
    return {"scaling": "ntk", "factor": float(rope["factor"])}


def _llama3(config, rope: dict) -> dict:
    return {
        "scaling": "llama3",
        "factor": float(rope["factor"]),
        "low_freq": float(rope["low_freq_factor"]),
        "high_freq": float(rope["high_freq_factor"]),
        "original_length": _original(config, rope),
    }


def _yarn(config, rope: dict) -> dict:
    original = _original(config, rope)
    factor = rope["factor"] or config.max_position_embeddings / original
    return {
        "scaling": "yarn",
        "factor": float(factor),
        "original_length": original,
        "beta_fast": float(rope.get("beta_fast") or 32),
        "beta_slow": float(rope.get("beta_slow") or 1),
        "truncate": rope.get("truncate", True),
        "attention_factor": _yarn_attention(factor, rope),
    }


def _yarn_attention(factor: float, rope: dict) -> float:
    """The factor on cosines and sines: given, or from the logarithm of the stretch."""

    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return _grown(factor, rope["mscale"]) / _grown(factor, rope["mscale_all_dim"])
    return _grown(factor, 1.0)


def yarn_scale(rope: dict) -> float:
    """The factor that DeepSeek puts on queries and on keys beside that on cosines and sines."""
    weight = rope.get("mscale_all_dim") or 0.0
    stretched = rope.get("rope_type", "default") != "default"
    return _grown(rope["factor"], weight) if weight and stretched else 1.0


def _grown(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def _longrope(config, rope: dict) -> dict:
    original = _original(config, rope)
    factor = rope.get("factor") or config.max_position_embeddings / original
    attention = rope.get("attention_factor")
    if attention is None:
        attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return {
        "scaling": "longrope",
        "original_length": original,
        "attention_factor": attention,
        "short": tuple(rope.get("short_factor") or ()),
        "long": tuple(rope.get("long_factor") or ()),
    }


LAWS = {
    "default": lambda config, rope: {},
    "linear": _linear,
    "dynamic": _dynamic,
    "longrope": _longrope,
    "ntk": _ntk,
    "llama3": _llama3,
    "yarn": _yarn,
}
