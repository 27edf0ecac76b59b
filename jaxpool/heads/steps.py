"""Heads: what happens to hidden states after the forward, as a tuple of steps.

A task is a chain like sentence-transformers' modules.json: `(Pool, Dense, Cut, Normalize)`,
`(Dense, Normalize)` for late interaction, `(Dense, Norm, Dense, Activate, Pool)` for SPLADE.
Each step is a frozen dataclass, hashable and so static under jit; its parameters, if any, lie in
`params["heads"][step.name]`. Before a `Pool` step vectors are tokens' `[B, T, F]`, after it the
segments' `[B, R, F]`, or the chunks' `[B, C, F]`; all steps compute in float32.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxpool.heads import adapted
from jaxpool.heads.context import Context
from jaxpool.heads.pooling import PICKS, POOLS
from jaxpool.heads.similarity import MaxSim
from jaxpool.nn import primitives
from jaxpool.nn.leaf import Leaf
from jaxpool.nn.segments import members

Chains = tuple[tuple, ...]  # the steps of each task that one program serves


@dataclass(frozen=True)
class Pool:
    """Pools token vectors to one vector a segment; several kinds are concatenated in order."""

    kinds: tuple[str, ...]

    def width(self, dim: int) -> int:
        """Features that come out where `dim` go in."""
        return dim * len(self.kinds)

    def mask(self, context):
        """The tokens each segment pools over: bool `[B, R, T]`."""
        controls, batch = context.controls, context.batch
        mask = members(batch.segments, controls.skip.shape[1])
        return mask & (batch.positions[:, None, :] >= controls.skip[..., None])

    def __call__(self, params, x, context):
        """`[B, T, F] -> [B, R, F * kinds]`."""
        mask, positions = self.mask(context), context.batch.positions
        return jnp.concatenate([POOLS[kind](x, mask, positions) for kind in self.kinds], axis=-1)


@dataclass(frozen=True)
class PoolChunks(Pool):
    """Pools token vectors to the mean of each chunk (late chunking, arXiv 2409.04701)."""

    kinds: tuple[str, ...] = ("mean",)

    def mask(self, context):
        """The tokens of each chunk: bool `[B, C, T]`."""
        chunks, token = context.controls.chunks, jnp.arange(context.batch.tokens.shape[1])
        return (chunks.first[..., None] <= token) & (token < chunks.end[..., None])


@dataclass(frozen=True)
class PoolSlots(Pool):
    """Token vectors as wide as a vocabulary to one a text that is there (SPLADE, arXiv 2109.10086).

    A batch has room for many more texts, and a vector for each would be a GB.
    """

    def slots(self, context):
        """The slot of each token's text: int32 `[B, T]`, one past the last for tokens of none."""
        segments, slots = context.batch.segments, context.controls.slots
        rows, most = context.controls.skip.shape
        places = most * jnp.arange(rows)[:, None] + segments - 1
        numbers = jnp.full(rows * most, len(slots), jnp.int32)
        used = jnp.where(slots < 0, rows * most, slots)
        numbers = numbers.at[used].set(jnp.arange(len(slots), dtype=jnp.int32), mode="drop")
        after = context.batch.positions >= context.of(context.controls.skip)[..., 0]
        counted = (segments > 0) & after
        return jnp.where(counted, numbers[places], len(slots))

    def __call__(self, params, x, context):
        """`[B, T, V] -> [S, V]`."""
        count, slots = len(context.controls.slots), self.slots(context).reshape(-1)
        flat = x.reshape(-1, x.shape[-1])
        parts = [SLOT_POOLS[kind](flat, slots, count + 1)[:count] for kind in self.kinds]
        return jnp.concatenate(parts, axis=-1)


SLOT_POOLS = {"max": jax.ops.segment_max, "sum": jax.ops.segment_sum}


@dataclass(frozen=True)
class Dense:
    """A linear layer and its activation; `residual` adds the input, projected if it must be."""

    name: str
    inputs: int
    outputs: int
    bias: bool = True
    activation: str = "identity"
    residual: bool = False

    def width(self, dim: int) -> int:
        """Features that come out."""
        return self.outputs

    def leaves(self):
        """The parameters of the step."""
        kernel = {"kernel": Leaf("I O", (self.inputs, self.outputs))}
        bias = {"bias": Leaf("O", (self.outputs,))} if self.bias else {}
        project = self.residual and self.inputs != self.outputs
        return kernel | bias | ({"residual": kernel} if project else {})

    def __call__(self, params, x, context):
        """`[..., I] -> [..., O]`."""
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        out = primitives.dense(params, x, "bti,io->bto")
        if "adapters" in params:
            out = out + adapted.change(params["adapters"], x, context)
        out = primitives.ACTIVATIONS[self.activation](out)
        if self.residual:
            kept = params.get("residual")
            out = out + (x if kept is None else primitives.dense(kept, x, "bti,io->bto"))
        return out


@dataclass(frozen=True)
class Norm:
    """A LayerNorm or RMSNorm with (or without) parameters."""

    name: str
    dim: int
    eps: float
    kind: str = "layer"
    scale: bool = True
    bias: bool = True

    def leaves(self):
        """The parameters of the step."""
        leaf = Leaf("O", (self.dim,))
        return ({"scale": leaf} if self.scale else {}) | ({"bias": leaf} if self.bias else {})

    def __call__(self, params, x, context):
        """`[..., O] -> [..., O]`."""
        return primitives.norm(params, x, self.kind, self.eps)


@dataclass(frozen=True)
class Cut:
    """Keep the leading features a request asks for (Matryoshka); the rest become zero."""

    def __call__(self, params, x, context):
        """`[..., F] -> [..., F]`; the host slices what it returns."""
        wanted = context.of(context.controls.dimensions)
        return jnp.where(jnp.arange(x.shape[-1], dtype=wanted.dtype) < wanted, x, 0.0)


@dataclass(frozen=True)
class Normalize:
    """L2-normalize, for the requests that want activation."""

    def __call__(self, params, x, context):
        """`[..., F] -> [..., F]`."""
        return jnp.where(context.of(context.controls.activate), unit(x), x)


def unit(x: jax.Array) -> jax.Array:
    """Vectors of length 1, with a finite gradient at zero: `[..., F] -> [..., F]`."""
    squares = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, 1e-24))


@dataclass(frozen=True)
class Unit:
    """L2-normalize, whatever the request's `activate`: a normalization inside a chain."""

    def __call__(self, params, x, context):
        """`[..., F] -> [..., F]`."""
        return unit(x)


@dataclass(frozen=True)
class Activate:
    """A classifier's activation, for the requests that want it: sigmoid, softmax, ..."""

    kind: str

    def __call__(self, params, x, context):
        """`[..., C] -> [..., C]`."""
        act = jax.nn.softmax if self.kind == "softmax" else primitives.ACTIVATIONS[self.kind]
        return jnp.where(context.of(context.controls.activate), act(x), x)


@dataclass(frozen=True)
class Margin:
    """The second of two logits less the first: its sigmoid is the softmax's second probability."""

    def width(self, dim: int) -> int:
        """Features that come out."""
        return 1

    def __call__(self, params, x, context):
        """`[..., 2] -> [..., 1]`."""
        return x[..., 1:] - x[..., :1]


@dataclass(frozen=True)
class Calibrate:
    """(logit - mean) / sigma."""

    mean: float = 0.0
    sigma: float = 1.0

    def __call__(self, params, x, context):
        """`[..., C] -> [..., C]`."""
        return (x - self.mean) / self.sigma


def picked(chains, batch, controls) -> jax.Array | None:
    """The tokens `[B, R]` whose vectors are enough: all chains begin by picking them; or None."""
    match list({steps[:1] for steps in chains}):
        case [(Pool(kinds=(kind,)) as pool,)] if kind in PICKS and _is_plain(pool):
            return PICKS[kind](pool.mask(Context(batch, controls, batch.segments)))
    return None


def _is_plain(pool: Pool) -> bool:
    return type(pool).__call__ is Pool.__call__


def run(steps: tuple, params: dict, hidden: jax.Array, batch, controls, pooled=False) -> jax.Array:
    """Apply a chain of steps to hidden states: `[B, R, F]`, or `[B, T, F]` without a `Pool`.

    pooled: `hidden` has only the tokens that the first step would pick.
    """
    context = Context(batch, controls, None if pooled else batch.segments)
    x = hidden.astype(jnp.float32)
    for step in steps[pooled:]:
        x = step(params.get(getattr(step, "name", None), {}), x, context)
        if isinstance(step, PoolChunks):
            context = context._replace(segments=controls.chunks.segment)
        elif isinstance(step, PoolSlots):
            context = context.in_slots()
        elif isinstance(step, Pool | MaxSim):
            context = context._replace(segments=None)
    return x


def is_pooled(steps: tuple) -> bool:
    """Whether a chain ends in one vector a segment (or chunk) rather than one a token."""
    return any(isinstance(step, Pool | MaxSim) for step in steps)


def pools_chunks(chains) -> bool:
    """Whether some chains average the tokens of chunks."""
    return any(PoolChunks() in steps for steps in chains)


def pools_slots(chains) -> bool:
    """Whether some chains give vectors to the texts of a batch alone."""
    return any(isinstance(step, PoolSlots) for steps in chains for step in steps)


def width(steps: tuple, dim: int) -> int:
    """Features that come out of a chain which `dim` go into."""
    for step in steps:
        dim = step.width(dim) if hasattr(step, "width") else dim
    return dim


def compared(chains, dim: int) -> int:
    """Features of the token vectors that `MaxSim` compares in some chains; 0 where none does."""
    ends = [steps[: steps.index(MaxSim())] for steps in chains if MaxSim() in steps]
    return width(ends[0], dim) if ends else 0


def abstract(chains) -> dict:
    """The parameter tree (`Leaf`s) of several chains; steps of one name share parameters."""
    return {step.name: step.leaves() for steps in chains for step in steps if hasattr(step, "name")}
