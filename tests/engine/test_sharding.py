"""Eight virtual devices as any mesh give the vectors of one; no weight is gathered."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxpool.engine.executor import Executor
from jaxpool.engine.sharding import make_mesh
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params
from jaxpool.nn.leaf import is_leaf
from jaxpool.nn.params import flatten
from jaxpool.tasks.task import Task
from tests.engine.test_engine import texts
from tests.tiny import BERT, EMBED, SIZES, TOKENS, engine
from tests.weight_gathers import gathered_weights

DECODER = BERT.replace(
    norm="rms", norm_bias=False, placement="pre", final_norm=True, causal=True, positions=0,
    gated=True, activation="silu", qkv_bias=False, out_bias=False, mlp_bias=False,
    kv_heads=2, qk_norm="head", embed_norm=False,
)  # fmt: skip
LENGTHS = [5, 16, 9, 30, 48, 12, 7, 31, 2, 33, 40]


@pytest.fixture(scope="module", params=[BERT, DECODER], ids=["encoder", "decoder"])
def arch(request):
    return request.param


@pytest.fixture(scope="module")
def single(arch):
    """The vectors of one device."""
    one = engine(arch)
    return one.finish(one.start(EMBED, texts(LENGTHS)))


@pytest.mark.parametrize("data, model", [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_meshes_agree_with_one_device(arch, single, data, model):
    meshed = engine(arch, data, model)
    got = meshed.finish(meshed.start(EMBED, texts(LENGTHS)))
    np.testing.assert_allclose(got, single, atol=1e-5)
    up = flatten(meshed.executor.params)["layers.mlp.up.kernel"]
    assert up.addressable_shards[0].data.shape[-1] == up.shape[-1] // model
    program = meshed.executor.compiled(meshed.keys([EMBED])[0]).as_text()
    assert gathered_weights(program, meshed.executor.params) == []


def test_meshes_pick_last_tokens_like_one_device(arch):
    task = Task("embed", (Pool(("lasttoken",)), Normalize()))
    engines = [engine(arch), engine(arch, 2, 4)]
    one, meshed = (np.stack(e.finish(e.start(task, texts(LENGTHS)))) for e in engines)
    assert np.ptp(one) > 0.5
    np.testing.assert_allclose(meshed, one, atol=1e-5)
    program = engines[1].executor.compiled(((task.steps,), 8, 32)).as_text()
    assert gathered_weights(program, engines[1].executor.params) == []


def test_meshes_pool_chunks_like_one_device():
    spans = [np.array([(0, 1), (n // 2, n)], np.int32)[: n // 8 + 1] for n in LENGTHS]
    each = [replace(t, spans=s) for t, s in zip(texts(LENGTHS), spans, strict=True)]
    one, meshed = engine(BERT), engine(BERT, 4, 2)
    whole = one.finish(one.start(Task("hidden", ()), texts(LENGTHS)))
    means = [h[a:b].mean(0) for h, own in zip(whole, spans, strict=True) for a, b in own]
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    for made in (one, meshed):
        vectors = made.finish(made.start(TOKENS.chunked, each))
        assert list(map(len, vectors)) == list(map(len, spans))
        np.testing.assert_allclose(np.concatenate(vectors), wanted, atol=1e-5)


def test_meshes_compare_documents_with_queries_like_one_device():
    rng = np.random.default_rng(3)
    asked = [rng.normal(size=(n, BERT.dim)).astype(np.float32) for n in (3, 40, 7)]
    each = [replace(text, query=asked[i % 3]) for i, text in enumerate(texts(LENGTHS))]
    scores = Task("token_embed", (Normalize(),)).compared
    engines = [engine(BERT), engine(BERT, 4, 2)]
    one, meshed = (np.stack(e.finish(e.start(scores, each))) for e in engines)
    assert np.ptp(one) > 1
    np.testing.assert_allclose(meshed, one, rtol=1e-5, atol=1e-4)


def split(letter: str, axis: str, mesh):
    """A sharding that splits every kernel of the layers by one of its letters, well or badly."""

    def place(leaf):
        kernel = len(leaf.shape) > 2
        spec = [axis if kernel and x == letter else None for x in leaf.axes.split()]
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(leaf.shape, "float32", sharding=sharding)

    return jax.tree.map(place, params.abstract(BERT), is_leaf=is_leaf)


def test_layers_spread_over_the_mesh_are_seen_as_gathers():
    mesh = make_mesh(2, 2)
    spread = split("L", "model", mesh)
    program = Executor(spread, BERT, mesh).lower(((EMBED.steps,), 8, 32)).compile().as_text()
    found = {line.split(":")[0] for line in gathered_weights(program, spread)}
    assert found >= {"layers.mlp.up.kernel", "layers.mlp.down.kernel"}
    assert {f"layers.attention.{name}.kernel" for name in ("query", "key", "value", "out")} <= found


def test_a_gather_of_each_layer_inside_the_loop_is_seen():
    mesh = make_mesh(8, 1)
    place = NamedSharding(mesh, PartitionSpec(None, None, "model"))
    weights = jax.ShapeDtypeStruct((3, 48, 64), "float32", sharding=place)
    tree = {"layers": {"up": {"kernel": weights}}}

    def layers(x, kernels):
        def layer(x, kernel):
            # What a layer multiplies with depends on its input: the gather cannot leave the loop.
            whole = jax.lax.with_sharding_constraint(kernel * x.mean(), PartitionSpec())
            return x + (x @ whole)[:, :48], None

        return jax.lax.scan(layer, x, kernels)[0]

    x = jax.ShapeDtypeStruct((5, 48), "float32")
    with jax.set_mesh(mesh):
        program = jax.jit(layers).lower(x, weights).compile()
    found = gathered_weights(program.as_text(), tree)
    assert [line.split(":")[0] for line in found] == ["layers.up.kernel"]


def test_a_mesh_beyond_the_devices_is_refused():
    with pytest.raises(ValueError, match="data_parallel_size=4 x tensor_parallel_size=4 needs 16"):
        make_mesh(4, 4)
    assert SIZES["heads"] % 8 == 0
