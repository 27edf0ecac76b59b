"""The one forward: embed -> scan(block) -> norm. Data (`Arch`) picks the architecture."""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp

from jaxpool.nn import branches, decoder, disentangled, layers, merger, narrow, positions, vision
from jaxpool.nn.arch import Arch
from jaxpool.nn.attention import attention
from jaxpool.nn.compression import compressed
from jaxpool.nn.dropout import OFF, Dropout, drop, dropped, split
from jaxpool.nn.experts import experts
from jaxpool.nn.mixers import mixer
from jaxpool.nn.remat import remat as checkpointed
from jaxpool.nn.reread import reread
from jaxpool.nn.sections import Section, sections, singly, whole
from jaxpool.nn.segments import take
from jaxpool.nn.stacked import from_bits, unstack


def forward(
    params: dict,
    batch,
    arch: Arch,
    unroll: bool = False,
    kept: jax.Array | None = None,
    *,
    dropout: Dropout = OFF,
    key: jax.Array | None = None,
    remat: str = "none",
) -> jax.Array:
    """Hidden states `[B, T, D]` of a `batch.Batch`; pure, jit-able and differentiable.

    `unroll` runs the layers in a Python loop instead of `jax.lax.scan`: the same numbers, slower
    to compile, easier to look into. Positions of segment 0 (padding) hold arbitrary finite values.
    kept: the tokens of each row that are wanted, int32 `[B, R]`; the result is then `[B, R, D]`,
    and the last layer computes what they take and no more. A batch of pictures goes through the
    vision tower beside a text model, and gives the hidden states of patches; where pictures stand
    among the tokens of texts, tower and text are one computation.

    In training: dropout at the rates `dropout`, drawn from `key` (none without one); remat:
    what the backward pass keeps of each layer, "none", "products" or "inputs" (`nn.remat`).
    """
    seen = None
    if arch.vision and batch.pixels is not None:
        if not arch.joins:
            params, arch = params["vision"], arch.vision
        else:
            beside, key = split(key, 2)
            seen = _see(params["vision"], batch, arch.vision, unroll, dropout, beside, remat)
    if arch.decoder is None or (arch.decoder.apart and batch.memory is None):
        return _run(params, batch, arch, unroll, kept, dropout, key, remat, seen)[0]
    first, key = split(key, 2)
    if arch.decoder.apart:
        memory = batch.memory._replace(vectors=batch.memory.vectors.astype(arch.dtype))
    else:
        read = _run(params, batch, arch, unroll, None, dropout, first, remat)[0]
        memory = decoder.Memory(read, batch.segments)
    own, behind = decoder.parameters(params), decoder.behind(batch, arch.decoder)
    return _run(own, behind, arch.decoder, unroll, kept, dropout, key, remat, memory=memory)[0]


def _see(params: dict, batch, tower, unroll: bool, dropout, key, remat) -> merger.Seen:
    """What the tokens of images take from the patches beside the texts of a batch."""
    row, col, _, cols = jnp.moveaxis(batch.grid, -1, 0)
    patches = type(batch)(
        None, batch.images, row * cols + col, pixels=batch.pixels, grid=batch.grid
    )
    patches = vision.begun(vision.apart(patches, tower), tower)
    hidden, states = _run(params, patches, tower, unroll, None, dropout, key, remat)
    first = tower.before_patches
    hidden, states = hidden[:, first:], None if states is None else states[:, :, first:]
    return merger.see(params, hidden, states, tower).in_rows(len(batch.images))


def _run(
    params: dict, batch, arch: Arch, unroll, kept, dropout, key, remat, seen=None, memory=None
) -> tuple[jax.Array, jax.Array | None]:
    """Hidden states, and those of the layers that a tower gives beside them.

    memory: `decoder.Memory` of an encoder, which the layers of a decoder attend to.
    """
    if arch.disentangled:
        hidden = disentangled.forward(
            params, batch, arch, unroll, dropout=dropout, key=key, remat=remat
        )
        return take(hidden, kept), None
    first, key = split(key, 2)
    x = drop(_embed(params["embed"], batch, arch, seen), dropout.hidden, first)
    if not arch.layers:  # a table of vectors alone
        return take(x, kept), None

    def run(x, batch, kept, bounds=None):
        body = _block(params, batch, arch, dropout, seen, memory, x)
        block = lambda section: checkpointed(partial(body, section), remat, unroll)  # noqa: E731
        return _layers(params, x, arch, unroll, kept, block, key, seen, bounds)

    if arch.compression is None or batch.types is None:
        x, states = run(x, batch, kept)
    else:
        alone = lambda *given: run(*given)[0]  # noqa: E731
        x, states = compressed(x, batch, arch, kept, alone), None
    return layers.arch_norm(params.get("norm", {}), x, arch) if arch.final_norm else x, states


def _embed(params: dict, batch, arch: Arch, seen: merger.Seen | None) -> jax.Array:
    if arch.patches:
        return vision.embed(params, batch, arch, arch.patches)
    if arch.narrow:
        return narrow.embed(params, batch, arch)
    if seen is None:
        return layers.embed(params, batch, arch)
    return layers.embed(params, batch, arch, seen.vectors, seen.marks)


def _layers(
    params: dict, x, arch: Arch, unroll: bool, kept, block, key, seen, bounds=None
) -> tuple:
    """All layers, a loop for each section; the last on its own where only some tokens are kept.

    bounds: the first layer and the one after the last, where these are not all.

    There the loops index the stacked weights, as `scan` does. A slice of the stack without its
    last layer would copy nearly all weights; a constant index for the last layer made XLA on TPU
    copy the whole stack into another layout, so the index is hidden from it.
    """
    keys = None if key is None else jax.random.split(key, arch.layers)
    facts = (*_layer_data(arch), merger.slots(arch, seen and seen.deep), keys)
    tree = {"facts": facts} | ({} if arch.shared_layers else params["layers"])
    deep = arch.merger.deep if arch.merger else ()
    carry = (x, jnp.zeros((len(deep), *x.shape), x.dtype) if deep else None)
    first, end = bounds or (0, arch.layers)
    scanned = kept is None and bounds is None

    def alone(carry, section: Section, kept=None):
        only = jax.lax.optimization_barrier(jnp.int32(0))
        return block(section)(carry, section.period(tree, only), kept)[0]

    def run(carry, section: Section):
        if section.times == 1:
            return alone(carry, section)
        layers = block(section)
        if scanned:
            return jax.lax.scan(layers, carry, section.periods(tree), length=section.times)[0]
        step = lambda i, x: layers(x, section.period(tree, i))[0]  # noqa: E731
        return jax.lax.fori_loop(0, section.times, step, carry)

    *others, last = each = singly(arch.parts)[first:end]
    if kept is not None:
        cut = others if unroll else sections(arch.parts[: end - 1], first)
        return alone(reduce(run, cut, carry), last, kept)
    looped = whole(arch.parts) if scanned else sections(arch.parts[:end], first)
    return reduce(run, each if unroll else looped, carry)


def _layer_data(arch: Arch) -> tuple:
    """What differs between layers, scanned with their weights: window, rotary table, first."""
    windows = jnp.asarray(arch.windows, jnp.int32) if arch.windows else None
    tables = jnp.asarray(arch.rotary_layers, jnp.int32) if arch.rotary_layers else None
    first = None if arch.first_attention_norm else jnp.arange(arch.layers) == 0
    return windows, tables, first


def _block(params: dict, batch, arch: Arch, dropout: Dropout, seen, memory, embedded) -> Callable:
    """The body of the loop over a section: one period of layers, closed over what all share.

    Given tokens `kept`, its last layer computes those alone. It carries what a tower gives, too.
    seen: `merger.Seen`, or None; embedded: the embeddings `[B, T, D]`.
    """
    layer = _layer(params, batch, arch, dropout, memory, embedded)
    shared = unstack(params["layers"], 1)[0] if arch.shared_layers else None

    def block(section: Section, carry, period, kept=None):
        x, states = carry
        each = [*section.layers(period)]
        for p in each:
            wanted = kept if p is each[-1] else None
            window, index, first, slot, key = p.pop("facts")
            x = layer(x, from_bits(shared or p), window, index, first, key, wanted)
            x, states = merger.between(x, states, seen, take(batch.soft, wanted), slot)
        return (x, states), None

    return block


def _layer(params: dict, batch, arch: Arch, dropout: Dropout, memory, embedded) -> Callable:
    """One layer, of its parameters and of what differs between layers."""
    turn = _turn(batch, arch)
    kernel = _kernels(params, batch, arch, dropout.attention, memory)
    chosen = layers.chosen_adapters(batch, arch)
    beside = memory.vectors if memory is not None and arch.merged else None
    read = memory is not None and beside is None and _reader(params, batch, arch, dropout, memory)

    def layer(x, p, window, index, first, key, kept):
        weights_key, attention_key, mlp_key, *cross_keys = split(key, 5 if read else 3)
        table = turn(index)
        look = partial(kernel(p, kept), window=window, key=weights_key)
        if arch.narrow:
            return narrow.layer(p, x, look, arch, chosen, kept)
        mix = lambda y: _mix(p, y, batch, table, look, arch, chosen, kept, beside)  # noqa: E731
        mix = dropped(mix, dropout.hidden, attention_key)
        think = lambda y: _mlp(p, y, arch, take(chosen, kept))  # noqa: E731
        think = dropped(think, dropout.hidden, mlp_key)
        before = take(x, kept) if arch.parallel else None
        x = branches.residual(p, "attention", x, mix, arch, first, kept)
        x = branches.cross(p, x, read, arch, kept, cross_keys)
        x = branches.residual(p, "mlp", x, think, arch, read=before)
        x = branches.bottleneck(p, x, arch)
        return reread(params, p, x, take(embedded, kept), arch, take(chosen, kept))

    return layer


def _kernels(params: dict, batch, arch: Arch, rate: float, memory=None) -> Callable:
    """`attention` for the parameters of a layer, and for the tokens `kept` where there are some.

    Layers with heads of one size share it, unless each has positions of its own. What attends to a
    memory too knows no dropout of weights.
    """
    kinds = {kind for parts in arch.parts for kind in parts} & {"attention", "wide"}
    make = partial(attention, rate=rate)
    if arch.merged:
        make = partial(attention, memory=memory.places)
    own = arch.relative_layers
    shared = {} if own else {x: make(params, batch, arch.attending(x)) for x in sorted(kinds)}

    def of(p: dict, kept: jax.Array | None) -> Callable:
        kind = "wide" if "wide" in p else "attention"
        if kept is None and kind in shared:
            return shared[kind]
        return make(p if own else params, batch, arch.attending(kind), kept)

    return of


def _turn(batch, arch: Arch) -> Callable:
    """The rotary tables of a layer's queries and of its keys, by its number; None without."""
    tables = positions.rotary_tables(arch, batch)
    queries = positions.query_tables(tables, arch, batch)

    def of(index):
        at = 0 if index is None else index
        return None if tables is None or queries is None else (queries[at], tables[at])

    return of


def _reader(params: dict, batch, arch: Arch, dropout: Dropout, memory) -> Callable:
    """What gives the branch of a layer that attends to the output of an encoder."""
    both_ways = partial(attention, params, batch, arch.replace(causal=False, relative_buckets=0))
    return partial(decoder.read, memory, both_ways, dropout)


def _mix(p: dict, x, batch, table, attend, arch: Arch, chosen, kept, memory) -> jax.Array:
    """What the tokens of a text take from one another, by attention or another mixer."""
    for name in ("attention", "wide"):
        if name in p:
            return branches.attention(p[name], x, batch, table, attend, arch, chosen, kept, memory)
    return mixer(p.get("mixer", {}), x, batch, arch, chosen, kept)


def _mlp(p: dict, x, arch: Arch, chosen) -> jax.Array:
    """What each token makes of itself, by an MLP or by experts."""
    if "experts" in p:
        return experts(p["experts"], x, arch)
    return layers.mlp(p["mlp"], x, arch, chosen)
