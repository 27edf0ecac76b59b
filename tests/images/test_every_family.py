"""What holds for texts holds for towers: meshes, bfloat16, 8 bits, export, compiled programs."""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpool
from converters import registry
from converters.checkpoint import open_checkpoint
from converters.files import orbax
from jaxpool.cli import compile_
from jaxpool.engine import joined, planner
from jaxpool.engine.batch import Request
from jaxpool.nn.params import flatten
from jaxpool.nn.transformer import forward
from tests.images.families import FAMILIES, IMAGES, SAME_PROGRAMS
from tests.images.photos import photo
from tests.parity import cosine
from tests.weight_gathers import gathered_weights

FAST = ("siglip2",)
# Kernels that a mesh splits: of every tower's layers, and where a model has them.
SPLIT = ("attention.query", "attention.out", "mlp.up", "mlp.down")
ALSO_SPLIT = ("vision.merger.up", "layers.wide.query")
KINDS = [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in FAMILIES]


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    """A family: its folder, and a model in float32 on one device."""
    made = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "m"
    made.save(folder)
    return made, folder, jaxpool.LLM(str(folder), data_parallel_size=1)


@pytest.fixture(scope="module")
def wanted(case):
    """What that gives."""
    made, _, llm = case
    return made.found(llm, made.prompts)


def given(case, **options):
    """What a load with some options gives, and the model."""
    made, folder, _ = case
    llm = jaxpool.LLM(str(folder), **({"data_parallel_size": 1} | options))
    return made.found(llm, made.prompts), llm


def check_cosines(found, wanted, least: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape and cosine(a, b) >= least


def test_a_mesh_gives_the_vectors_of_one_device(case, wanted):
    """Two by two devices; a tower's kernels are split over them, and none is gathered."""
    found, llm = given(case, tensor_parallel_size=2, data_parallel_size=2)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=case[0].meshed)
    params, tower = flatten(llm.model.params), "vision." * (llm.model.arch.vision is not None)
    names = [f"{tower}layers.{part}" for part in SPLIT]
    names += [name for name in ALSO_SPLIT if f"{name}.kernel" in params]
    for name in names:
        kernel = params[f"{name}.kernel"]
        assert kernel.addressable_shards[0].data.size * 2 == kernel.size, name
    for executor in (engine.executor for engine in llm.model.engines.values()):
        texts = [executor.compiled(key).as_text() for key in executor._ready]
        assert not any(gathered_weights(text, executor.params) for text in texts)


def test_bfloat16(case, wanted):
    check_cosines(given(case, dtype="bfloat16")[0], wanted, case[0].half)


@pytest.mark.parametrize("kind", ["int8", pytest.param("int8_weight_only", marks=pytest.mark.slow)])
def test_kernels_of_8_bits(case, wanted, kind):
    """Those of the layers of a text model, and of a tower."""
    found, llm = given(case, quantization=kind)
    check_cosines(found, wanted, 0.99)
    params, seen = flatten(llm.model.params), llm.model.arch.vision is not None
    for part in ("layers.", "vision.layers.")[: 1 + seen]:
        layers = [x for name, x in params.items() if name.startswith(part) and "kernel" in name]
        assert layers and all(x.dtype.itemsize == 1 for x in layers)


def test_folders(case, wanted, tmp_path):
    """One of Orbax gives the same; what is exported has the same parameters, bit by bit."""
    made, folder, llm = case
    orbax.save(open_checkpoint(folder), tmp_path)
    again = jaxpool.LLM(str(tmp_path), data_parallel_size=1)
    for a, b in zip(made.found(again, made.prompts), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    llm.model.export(tmp_path / "exported")
    before, after = (
        open_checkpoint(f).read(np.float32, lambda path, array: array)
        for f in (folder, tmp_path / "exported")
    )
    jax.tree.map(np.testing.assert_array_equal, after, before)


@pytest.mark.slow
def test_exported_forward(case):
    """`jax.export` of the function, for devices that are not here too."""
    model = case[2].model
    batch, arch = patches(case[2]), model.arch
    compute = jax.jit(partial(forward, arch=arch))
    made = jax.export.export(compute, platforms=("cpu", "cuda", "tpu"))(model.params, batch)
    found = made.call(model.params, batch)
    assert jnp.isfinite(found).all()
    np.testing.assert_array_equal(found, compute(model.params, batch))


def patches(llm):
    """A batch of one picture, which stands among the tokens of a text where a model has such."""
    model = llm.model
    if model.arch.joins:
        asked = model.requests(model.task(llm.pooling_task), [{"text": "a", "image": IMAGES[1]}])
        return joined.pad(asked, model.arch)
    request = Request(np.zeros(1, np.int32), picture=model.processor(IMAGES[1]))
    length = model.picture_engine.buckets[0]
    (plan,) = planner.plan([length], (length,), 512)
    return model.picture_engine.fill((), plan, [request])[0]


@pytest.mark.slow
def test_compiled_programs(case, tmp_path):
    """A start with what `jaxpool compile` has written compiles nothing."""
    llm = case[2]
    joins, task = llm.model.arch.joins, llm.pooling_task
    sizes = {"max_num_batched_tokens": 64}
    prompt = {"prompt": ""}
    if joins:
        place = llm.model.tokenizer.id(llm.model.conversation.placeholder)
        prompt = {"prompt_token_ids": [5, place, 6]}
    prompts = [prompt | {"multi_modal_data": {"image": photo(8, 8)}}]
    if joins:
        (one,) = llm.model.requests(llm.model.task(task), prompts)
        length = -(-len(one.ids) // 64) * 64
        sizes = {"max_model_len": length, "max_num_batched_tokens": 20 * length}
    prompts += [[5, 6, 7]] * (llm.model.arch.vision is not None)
    compile_(str(case[1]), str(tmp_path / "out"), [task], **sizes)
    options = {"compiled": str(tmp_path / "out"), "forbid_compiles": True, **sizes}
    again = jaxpool.LLM(str(case[1]), data_parallel_size=1, **options)
    found, wanted = (
        [one.outputs.data for one in each.encode(prompts, pooling_task=task, use_tqdm=False)]
        for each in (again, llm)
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert not any(engine.executor.compilations for engine in again.model.engines.values())


def test_every_family_is_here():
    known = registry.FAMILIES | registry.ARCHITECTURES
    assert {name for name, family in known.items() if family.processor} - FAMILIES.keys() == (
        SAME_PROGRAMS
    )
