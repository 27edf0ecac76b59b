"""Vectors quantized inside the program: int8, uint8, binary, ubinary."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util.quantization import quantize_embeddings

from jaxpool import LLM, PoolingParams
from jaxpool.heads.precision import PRECISIONS, quantize
from tests.small import DIM, TEXTS, vectors
from tests.text.test_long_text import LONG

QUANTIZED = PRECISIONS[1:]
RAW = PoolingParams(use_activation=False)


@pytest.fixture(scope="module")
def model(bert, tmp_path_factory):
    """sentence-transformers' own, and its folder."""
    model = SentenceTransformer(
        modules=[Transformer(str(bert)), Pooling(DIM), Normalize()], device="cpu"
    )
    folder = tmp_path_factory.mktemp("precision") / "model"
    model.save(str(folder))
    return model, folder


@pytest.fixture(scope="module")
def llm(model):
    return LLM(str(model[1]), hf_overrides={"is_matryoshka": True})


def theirs(model, precision, dimensions=None):
    """sentence-transformers' vectors, none of whose features lies where noise could decide."""
    exact = model.encode(TEXTS, truncate_dim=dimensions)
    if precision.endswith("binary"):
        assert np.abs(exact).min() > 1e-5
        return quantize_embeddings(exact, precision)
    scaled = 127.0 * exact / np.linalg.norm(exact, axis=1, keepdims=True)
    assert np.abs(scaled % 1 - 0.5).min() > 127e-5
    return (np.rint(scaled) + (128 if precision == "uint8" else 0)).astype(precision)


@pytest.mark.parametrize("dimensions", [None, 16, 13])
@pytest.mark.parametrize("precision", QUANTIZED)
def test_vectors_are_those_of_sentence_transformers(precision, dimensions, model, llm):
    wanted = theirs(model[0], precision, dimensions)
    ours = llm.model.encode(TEXTS, precision=precision, dimensions=dimensions)
    np.testing.assert_array_equal(ours, wanted, strict=True)
    params = PoolingParams(dimensions=dimensions)
    outputs = llm.embed(TEXTS, precision=precision, pooling_params=params, use_tqdm=False)
    assert [output.outputs.embedding for output in outputs] == wanted.tolist()
    assert outputs[0].outputs.hidden_size == wanted.shape[1]


def test_packed_bytes_are_what_is_fetched(llm, monkeypatch):
    dispatch, sizes = llm.model.engine.dispatch, []

    def spy(*call):
        outputs = dispatch(*call)
        sizes.extend((output.dtype, output.shape[-1]) for output in outputs)
        return outputs

    monkeypatch.setattr(llm.model.engine, "dispatch", spy)
    llm.embed(TEXTS, precision="ubinary", use_tqdm=False)
    assert set(sizes) == {(np.dtype(np.uint8), DIM // 8 + 1)}


def test_several_precisions_of_one_forward(llm):
    engine, names = llm.model.engine, ["embed", *(f"embed:{name}" for name in QUANTIZED)]
    before = engine.real_tokens
    outputs = llm.encode(TEXTS, pooling_task=names, use_tqdm=False)
    assert engine.real_tokens - before == sum(len(output.prompt_token_ids) for output in outputs)
    for name, precision in zip(names[1:], QUANTIZED, strict=True):
        found = [output.outputs.data[name] for output in outputs]
        np.testing.assert_array_equal(found, llm.model.encode(TEXTS, precision=precision))
    found = [output.outputs.data["embed"] for output in outputs]
    np.testing.assert_allclose(found, vectors(llm), atol=1e-6)


@pytest.mark.parametrize("precision", QUANTIZED)
def test_long_texts_are_joined_before(precision, bert):
    llm = LLM(str(bert), pooler_config={"enable_chunked_processing": True})
    texts = [*TEXTS, LONG, LONG[100:]]
    exact = vectors(llm, texts).astype(np.float32)
    wanted = quantize(exact, precision).tolist()
    assert vectors(llm, texts, precision=precision).tolist() == wanted
    both = llm.encode(texts, pooling_task=["embed", f"embed:{precision}"], use_tqdm=False)
    for output, floats, small in zip(both, exact, wanted, strict=True):
        np.testing.assert_allclose(output.outputs.data["embed"], floats, atol=1e-6)
        assert output.outputs.data[f"embed:{precision}"].tolist() == small


@pytest.mark.parametrize("late", [None, {"chunk_size": 5}])
def test_token_vectors_and_late_chunks(late, llm):
    params = PoolingParams(late_chunking_params=late, dimensions=20)

    def matrices(task):
        return llm.encode(TEXTS[:2], params, pooling_task=task, use_tqdm=False)

    both = matrices(["token_embed", "token_embed:int8"])
    for exact, small, pair in zip(
        matrices("token_embed"), matrices("token_embed:ubinary"), both, strict=True
    ):
        exact, small = exact.outputs.data, small.outputs.data
        assert exact.shape[1] == 20 and np.abs(exact).min() > 1e-5
        np.testing.assert_array_equal(small, np.packbits(exact > 0, axis=-1), strict=True)
        found = pair.outputs.data["token_embed:int8"]
        np.testing.assert_allclose(found, np.rint(127 * exact), atol=1)
        assert found.dtype == np.int8


def test_vectors_that_are_not_normalized(llm):
    raw = vectors(llm, pooling_params=RAW)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 0.1
    bits = vectors(llm, pooling_params=RAW, precision="ubinary")
    np.testing.assert_array_equal(bits, np.packbits(raw > 0, axis=1))
    for precision in ("int8", "uint8"):
        with pytest.raises(ValueError, match=f"'{precision}' is of normalized vectors, and use_ac"):
            llm.embed(TEXTS, precision=precision, pooling_params=RAW, use_tqdm=False)


def test_bytes_never_stand_for_a_vector_that_is_no_number(bert):
    llm = LLM(str(bert))
    params = llm.model.executor.params
    table = params["embed"]["token"]["embedding"].at[7592].set(np.nan)  # "hello"
    embed = params["embed"] | {"token": {"embedding": table}}
    llm.model.executor.params = params | {"embed": embed}
    for precision in ("float32", *QUANTIZED):
        assert len(vectors(llm, ["goodbye"], precision=precision)[0])
        with pytest.raises(ArithmeticError, match="the result is not finite"):
            llm.embed(["goodbye", "hello"], precision=precision, use_tqdm=False)


@pytest.mark.parametrize(
    ("task", "precision", "message"),
    [
        ("embed", "int4", "precision must be one of .*'ubinary'.*, got 'int4'"),
        ("embed:half", None, "precision must be one of .*, got 'half'"),
        ("classify", "int8", "Classification API is not supported"),
        (["embed", "sparse"], "int8", r"precision 'int8' is for \('embed', 'token_embed'\), not"),
    ],
)
def test_refused(task, precision, message, llm, model, monkeypatch):
    tasks = llm.model.tasks
    monkeypatch.setitem(tasks, "sparse", tasks["embed"].tokenwise("sparse"))
    options = {} if precision is None else {"precision": precision}
    with pytest.raises(ValueError, match=message):
        llm.encode(TEXTS, pooling_task=task, use_tqdm=False, **options)


def test_programs_made_ahead(model, tmp_path):
    from jaxpool.engine import serialized

    limits = {"max_model_len": 16, "max_num_batched_tokens": 16}
    warm = LLM(str(model[1]), warmup=("embed:binary",), forbid_compiles=True, **limits)
    wanted = vectors(warm, TEXTS[:1], precision="binary")
    with pytest.raises(RuntimeError, match="has no executable and compiling is off"):
        warm.embed(TEXTS[:1], use_tqdm=False)
    loaded = warm.model
    keys = loaded.engine.keys([loaded.task("embed:binary")])
    serialized.save(loaded.executor, tmp_path / "compiled", keys)
    stored = LLM(str(model[1]), compiled=str(tmp_path / "compiled"), **limits)
    np.testing.assert_array_equal(vectors(stored, TEXTS[:1], precision="binary"), wanted)
    assert stored.model.executor.compilations == 0
