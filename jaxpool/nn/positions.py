"""What attention knows of positions: rotary tables, ALiBi slopes, relative-position buckets."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxpool.nn.arch import Arch, Rotary
from jaxpool.nn.segments import segment_sums


def frequencies(table: Rotary) -> np.ndarray:
    """Inverse frequencies `[dim / 2]` of a rotary table whose law knows no length, in float32.

    Computed in float32 as torch does: what models were trained with. Sources: linear (kaiokendev),
    fixed NTK (kexue.fm/archives/9706, equation 6), YaRN (arXiv 2309.00071), Llama 3.1's card.
    """
    if table.repeats > 1:
        once = replace(table, dim=table.dim // table.repeats, repeats=1)
        return np.tile(frequencies(once), table.repeats)
    return FIXED[table.scaling](table, _periods(table))


def _exponents(table: Rotary) -> np.ndarray:
    return np.arange(0, table.dim, 2, dtype=np.float32) / np.float32(table.dim)


def _periods(table: Rotary) -> np.ndarray:
    return np.float32(table.theta) ** _exponents(table)


def _ntk(table: Rotary, periods: np.ndarray) -> np.ndarray:
    slowed = table.factor ** -_exponents(table) / periods
    return slowed / table.factor ** (2 / table.dim)


def _llama3(table: Rotary, periods: np.ndarray) -> np.ndarray:
    base = 1.0 / periods
    turns = table.original_length / (2 * math.pi / base)
    smooth = np.clip((turns - table.low_freq) / (table.high_freq - table.low_freq), 0.0, 1.0)
    return (1 - smooth) * base / table.factor + smooth * base


def _yarn(table: Rotary, periods: np.ndarray) -> np.ndarray:
    def feature(rotations: float) -> float:
        turns = table.original_length / (rotations * 2 * math.pi)
        return table.dim * math.log(turns) / (2 * math.log(table.theta))

    low, high = feature(table.beta_fast), feature(table.beta_slow)
    if table.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, table.dim - 1)
    ramp = (np.arange(table.dim // 2, dtype=np.float32) - low) / max(high - low, 0.001)
    keep = 1 - np.clip(ramp, 0.0, 1.0)
    return 1.0 / (table.factor * periods) * (1 - keep) + 1.0 / periods * keep


FIXED = {
    "none": lambda table, periods: 1.0 / periods,
    "linear": lambda table, periods: 1.0 / periods / table.factor,
    "ntk": _ntk,
    "llama3": _llama3,
    "yarn": _yarn,
}


def _dynamic(table: Rotary, lengths: jax.Array) -> jax.Array:
    """NTK-aware base that grows with the text (bloc97, emozilla), `[B, T, dim / 2]`."""
    ratio = jnp.maximum(lengths.astype(jnp.float32) / table.original_length, 1.0)
    growth = (table.factor * ratio - (table.factor - 1)) ** (table.dim / (table.dim - 2))
    return (table.theta * growth[..., None]) ** -jnp.asarray(_exponents(table))


def _longrope(table: Rotary, lengths: jax.Array) -> jax.Array:
    """Factors for short texts and for long ones (arXiv 2402.13753), `[B, T, dim / 2]`."""
    short, long = (
        jnp.asarray(1.0 / (np.asarray(factors, np.float32) * _periods(table)))
        for factors in (table.short, table.long)
    )
    return jnp.where(lengths[..., None] > table.original_length, long, short)


BY_LENGTH = {"dynamic": _dynamic, "longrope": _longrope}


def segment_lengths(batch) -> jax.Array:
    """The number of tokens of each token's own segment, int32 `[B, T]`."""
    return segment_sums(batch, jnp.ones_like(batch.tokens))


def query_tables(tables: jax.Array | None, arch: Arch, batch) -> jax.Array | None:
    """`rotary_tables` for queries, which may grow with their position."""
    if tables is None or not any(table.growth for table in arch.rotary):
        return tables
    grown = [_growth(table, batch.positions) for table in arch.rotary]
    return tables * jnp.stack(grown)[:, None, :, :, None]


def _growth(table: Rotary, positions: jax.Array) -> jax.Array:
    if not table.growth:
        return jnp.ones(positions.shape, jnp.float32)
    held = (positions // table.original_length).astype(jnp.float32)
    return 1.0 + table.growth * jnp.log1p(held)


def rotary_tables(arch: Arch, batch) -> jax.Array | None:
    """Cosines and sines `[tables, 2, B, T, dim / 2]` in float32; None without rotary positions.

    A law that depends on the length of the text sees each segment's own. Where features turn by
    several coordinates, a batch without them has the same position in each.
    """
    if not arch.rotary:
        return None
    laws = [table.scaling in BY_LENGTH for table in arch.rotary]
    lengths = segment_lengths(batch) if any(laws) else None
    width = max(table.dim for table in arch.rotary) // 2
    spread = batch.grid if arch.patches else batch.coordinates
    tables = []
    for table in arch.rotary:
        places = batch.positions[..., None]
        if table.axes and spread is not None:
            places = jnp.take(spread, jnp.asarray(table.axes), axis=-1)
        tables.append(_table(table, places, lengths, width))
    return jnp.stack(tables)


def _table(table: Rotary, places: jax.Array, lengths, width: int) -> jax.Array:
    if not table.dim:
        rates = jnp.zeros(width, jnp.float32)
    elif table.scaling in BY_LENGTH:
        rates = BY_LENGTH[table.scaling](table, lengths)
    else:
        rates = jnp.asarray(frequencies(table), jnp.float32)
    rates = jnp.pad(rates, [(0, 0)] * (rates.ndim - 1) + [(0, width - rates.shape[-1])])
    angles = places.astype(jnp.float32) * rates
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)]) * table.attention_factor


def rotate(x: jax.Array, table: jax.Array, law: Rotary) -> jax.Array:
    """Turn the leading features of heads `[B, T, N, H]` by the angles of `table [2, B, T, h]`.

    Angles beyond those of the head are other heads', of layers where they are wider.
    """
    cos, sin = (part[:, :, None, : x.shape[-1] // 2] for part in table)
    dim = 2 * cos.shape[-1]
    turned, rest = x[..., :dim].astype(jnp.float32), x[..., dim:]
    if law.blocks > 1:
        cos, sin = (part.reshape(*part.shape[:-1], law.blocks, -1) for part in (cos, sin))
        a, b = jnp.split(turned.reshape(*turned.shape[:-1], law.blocks, -1), 2, axis=-1)
        pair = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
        pair = pair.reshape(turned.shape)
    elif law.interleaved:
        a, b = turned[..., 0::2], turned[..., 1::2]
        pair = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1).reshape(turned.shape)
    else:
        a, b = jnp.split(turned, 2, axis=-1)
        pair = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return jnp.concatenate([pair.astype(x.dtype), rest], axis=-1)


def alibi_slopes(heads: int) -> np.ndarray:
    """One slope a head `[N]` (Press et al., arXiv 2108.12409)."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)
    extra = 2.0 ** (-4.0 * np.arange(1, 2 * (heads - power), 2) / power)
    return np.concatenate([slopes, extra]).astype(np.float32)


def relative_bucket(
    distance: jax.Array, buckets: int, max_distance: int, causal: bool = False
) -> jax.Array:
    """T5's bucket of `key position - query position` (arXiv 1910.10683); half are of what follows.

    causal: all are of what comes before.
    """
    half = buckets if causal else buckets // 2
    exact = half // 2
    size = jnp.abs(distance)
    log = jnp.log(jnp.maximum(size, 1).astype(jnp.float32) / exact) / math.log(max_distance / exact)
    far = exact + (log * (half - exact)).astype(jnp.int32)
    bucket = jnp.where(size < exact, size, jnp.minimum(far, half - 1))
    return bucket if causal else jnp.where(distance > 0, half, 0) + bucket


def attention_bias(params: dict, queries, keys, arch: Arch) -> jax.Array | None:
    """What positions `[B, T]` and `[B, S]` add to the scores `[B, N, T, S]`; None where nothing."""
    if not (arch.alibi or arch.relative_buckets):
        return None
    distance = keys[:, None, :] - queries[:, :, None]
    if arch.alibi:
        slopes = jnp.asarray(alibi_slopes(arch.heads))
        return -slopes[:, None, None] * jnp.abs(distance)[:, None].astype(jnp.float32)
    facts = arch.relative_buckets, arch.relative_distance, arch.causal
    bucket = relative_bucket(distance, *facts)
    table = params["relative"]["embedding"].astype(jnp.float32)
    return jnp.moveaxis(jnp.take(table, bucket, axis=0), -1, 1)
