"""GradCache: the plain gradient of a large batch, in the memory of a small one, on any mesh."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpool.engine.batch import Batch
from jaxpool.engine.executor import memory
from jaxpool.engine.sharding import make_mesh, rows_sharding, tree_shardings
from jaxpool.nn import params as parameters
from jaxpool.nn.arch import Arch
from jaxpool.nn.dropout import Dropout
from jaxpool.nn.transformer import forward
from jaxpool.train.gradcache import grad_cache
from jaxpool.train.losses import info_nce
from tests.tiny import BERT

DROPOUT = Dropout(0.1, 0.1)


def batch(rows, length, vocab=99, seed=0):
    random = np.random.default_rng(seed)
    segments = np.int32(np.arange(length) < random.integers(2, length + 1, (rows, 1)))
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    return Batch(random.integers(1, vocab, (rows, length), np.int32), segments, positions)


def embed(params, sides, key=None, arch=BERT, remat="none"):
    """The means of queries and documents."""

    def one(side, key):
        hidden = forward(params, side, arch, dropout=DROPOUT, key=key, remat=remat)
        real = (side.segments > 0)[..., None].astype(jnp.float32)
        return jnp.sum(hidden * real, axis=1) / jnp.sum(real, axis=1)

    keys = (None, None) if key is None else jax.random.split(key)
    return tuple(map(one, sides, keys))


def loss(vectors):
    return info_nce(*vectors)


def close(got, wanted, tolerance=1e-6):
    """Every gradient within a share of the greatest element."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert np.abs(a - b).max() <= tolerance * max(np.abs(np.array(b)).max(), 1e-2)


@pytest.fixture(scope="module")
def weights():
    return parameters.init(jax.random.key(1), parameters.abstract(BERT), 0.1)


SIDES = batch(32, 12), batch(32, 16, seed=1)


def test_gradient_is_the_plain_one(weights):
    value, plain = jax.jit(jax.value_and_grad(lambda p: loss(embed(p, SIDES))))(weights)
    again, cached = jax.jit(grad_cache(loss, embed, chunk=8))(weights, SIDES)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    close(cached, plain)


def test_dropout_keys_are_replayed(weights):
    """Beside the plain gradient of the same chunks with the same keys."""
    key, count = jax.random.key(3), 4

    def chunked(params):
        keys = jax.random.split(key, count)
        chunks = [jax.tree.map(lambda x, i=i: x[i::count], SIDES) for i in range(count)]
        made = [embed(params, part, each) for part, each in zip(chunks, keys, strict=True)]
        return loss([jnp.stack(side, 1).reshape(32, -1) for side in zip(*made, strict=True)])

    value, plain = jax.jit(jax.value_and_grad(chunked))(weights)
    cache = jax.jit(grad_cache(loss, embed, chunk=8))
    again, cached = cache(weights, SIDES, key=key)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    close(cached, plain)
    assert cache(weights, SIDES)[0] != again


@pytest.mark.parametrize("shape", [pytest.param((8, 1), marks=pytest.mark.slow), (2, 4)])
def test_mesh(weights, shape):
    data, model = shape
    mesh = make_mesh(model, data)
    _, plain = jax.jit(jax.value_and_grad(lambda p: loss(embed(p, SIDES))))(weights)
    placed = jax.device_put(weights, tree_shardings(parameters.abstract(BERT), mesh))
    sides = jax.device_put(SIDES, rows_sharding(mesh))
    with jax.set_mesh(mesh):
        _, cached = jax.jit(grad_cache(loss, embed, chunk=8))(placed, sides)
    close(cached, plain)


def test_refuses_what_does_not_divide(weights):
    with pytest.raises(ValueError, match="chunk=5 does not divide the 32 rows"):
        grad_cache(loss, embed, chunk=5)(weights, SIDES)


MINILM = Arch(
    vocab=30522,
    layers=6,
    dim=384,
    heads=12,
    kv_heads=12,
    head_dim=32,
    mlp_dim=1536,
    positions=512,
    embed_norm=True,
)


def peak(rows: int, chunk: int | None) -> int:
    """Bytes that XLA plans beside the arguments: MiniLM's shape, rows of 128 tokens."""
    leaves = parameters.abstract(MINILM)
    shapes = jax.eval_shape(lambda: parameters.init(jax.random.key(0), leaves))
    side = Batch(*(jax.ShapeDtypeStruct((rows, 128), jnp.int32),) * 3)
    make = partial(embed, arch=MINILM)
    plain = jax.value_and_grad(lambda p, sides: loss(make(p, sides)))
    program = plain if chunk is None else grad_cache(loss, make, chunk=chunk)
    account = memory(jax.jit(program).lower(shapes, (side, side)).compile())
    return account["temp"] + account["output"]


@pytest.mark.slow
def test_memory_of_a_large_batch():
    """Batch 1,024 in chunks of 32 within 1.3 times a plain batch of 64."""
    small, large = peak(64, None), peak(1024, 32)
    print(f"plain 64: {small / 2**20:.0f} MiB, cached 1024 by 32: {large / 2**20:.0f} MiB")
    assert large <= 1.3 * small
