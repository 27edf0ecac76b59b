"""`Embedder` on every form of rows and every task, against `LLM`."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jaxpool import LLM, Embedder, PoolingParams

TEXTS = ["a cat purrs", "dogs bark " * 30, "日本語のテキスト", "Berlin is the capital of Germany"]
IDS = [7, 5, 3, 1]


def rows_of(kind):
    columns = {"id": IDS, "text": TEXTS}
    match kind:
        case "table":
            return pa.table(columns)
        case "batch":
            return pa.RecordBatch.from_pydict(columns)
        case "arrays":
            return {"id": np.array(IDS), "text": np.array(TEXTS, object)}
        case "rows":
            return [dict(zip(columns, row, strict=True)) for row in zip(IDS, TEXTS, strict=True)]
        case "pandas":
            return pd.DataFrame(columns, index=[3, 1, 4, 15])


def column(rows, name):
    """A column of any form, as a list."""
    if isinstance(rows, list):
        return [row[name] for row in rows]
    return rows[name].to_pylist() if isinstance(rows, pa.Table | pa.RecordBatch) else rows[name]


@pytest.fixture(scope="module")
def llm(toy):
    return LLM(toy)


@pytest.fixture(scope="module")
def wanted(llm):
    cut = {"truncate_prompt_tokens": -1}
    outputs = llm.embed(TEXTS, use_tqdm=False, tokenization_kwargs=cut)
    return np.array([output.outputs.embedding for output in outputs], np.float32)


@pytest.mark.parametrize("kind", ["table", "batch", "arrays", "rows", "pandas"])
def test_rows_come_back_in_their_own_form(kind, toy, wanted):
    given = rows_of(kind)
    found = Embedder(toy)(given)
    assert type(found) is type(given)
    np.testing.assert_array_equal(np.array(list(column(found, "embedding"))), wanted)
    assert list(column(found, "id")) == IDS and list(column(found, "text")) == TEXTS
    if kind == "pandas":
        assert list(found.index) == [3, 1, 4, 15]


@pytest.mark.parametrize("kind", ["table", "batch", "arrays", "rows", "pandas"])
@pytest.mark.parametrize("on_error", ["null", "skip"])
def test_errors_of_rows(kind, on_error, toy, wanted):
    given = rows_of(kind)
    bad = {1: None, 2: " "}
    texts = [bad.get(i, text) for i, text in enumerate(TEXTS)]
    match kind:
        case "table" | "batch":
            given = given.set_column(1, "text", pa.array(texts))
        case "rows":
            given = [row | {"text": text} for row, text in zip(given, texts, strict=True)]
        case _:
            given["text"] = np.array(texts, object)
    found = Embedder(toy, on_error=on_error, keep=["id"])(given)
    vectors = list(column(found, "embedding"))
    if on_error == "skip":
        np.testing.assert_allclose(np.array(vectors), wanted[[0, 3]], atol=1e-6)
        assert list(column(found, "id")) == [IDS[0], IDS[3]]
        return
    assert vectors[1] is None and vectors[2] is None
    np.testing.assert_allclose(np.array([vectors[0], vectors[3]]), wanted[[0, 3]], atol=1e-6)
    reasons = ["null instead of a text", "an empty text"]
    errors = [None if pd.isna(reason) else reason for reason in column(found, "error")]
    assert errors == [None, *reasons, None]


def test_a_row_that_is_too_long_is_named(toy):
    rows = [{"text": text} for text in ["short", "long " * 100, 3, "short"]]
    with pytest.raises(ValueError, match="row 1: wanted a text, found 3"):
        Embedder(toy, truncate=False)([rows[0], *rows[2:]])
    with pytest.raises(ValueError, match="row 1: This model's maximum context length is 96"):
        Embedder(toy, truncate=False)(rows[:2])
    found = Embedder(toy, truncate=False, on_error="null")(rows)
    assert [row["error"] is None for row in found] == [True, False, False, True]
    np.testing.assert_allclose(found[0]["embedding"], found[3]["embedding"], atol=1e-6)


@pytest.mark.parametrize(
    "precision,dtype,width",
    [("float32", "float", 64), ("float16", "halffloat", 64), ("int8", "int8", 64)]
    + [("uint8", "uint8", 64), ("binary", "int8", 8), ("ubinary", "uint8", 8)],
)
def test_vectors_in_every_precision(precision, dtype, width, toy, llm, wanted):
    found = Embedder(toy, precision=precision)(rows_of("table"))["embedding"]
    assert str(found.type) == f"fixed_size_list<item: {dtype}>[{width}]"
    if precision == "float16":
        vectors = wanted.astype(np.float16)
    else:
        cut = {"truncate_prompt_tokens": -1}
        options = {"precision": precision, "use_tqdm": False, "tokenization_kwargs": cut}
        vectors = [output.outputs.embedding for output in llm.embed(TEXTS, **options)]
    np.testing.assert_array_equal(np.array(found.to_pylist()), vectors)


def encoded(folder, task, **options):
    cut = {"truncate_prompt_tokens": -1}
    options = {"use_tqdm": False, "tokenization_kwargs": cut} | options
    return [o.outputs.data for o in LLM(folder).encode(TEXTS, pooling_task=task, **options)]


@pytest.mark.parametrize("task", ["token_embed", "token_classify"])
def test_a_vector_a_token(task, toy, tagger):
    folder = toy if task == "token_embed" else tagger
    found = Embedder(folder, task, output="x")(rows_of("table"))["x"]
    width = 64 if task == "token_embed" else 5
    assert str(found.type) == f"list<item: fixed_size_list<item: float>[{width}]>"
    for row, wanted in zip(found.to_pylist(), encoded(folder, task), strict=True):
        np.testing.assert_array_equal(np.array(row, np.float32), wanted)


def test_classes(classifier):
    found = Embedder(classifier, "classify")(rows_of("table"))
    wanted = encoded(classifier, "classify")
    np.testing.assert_array_equal(np.array(found["probabilities"].to_pylist(), np.float32), wanted)
    names = ["negative", "neutral", "positive"]
    assert found["label"].to_pylist() == [names[int(p.argmax())] for p in wanted]


def test_scores_of_pairs(cross_encoder):
    rows = [{"query": a, "passage": b} for a, b in zip(TEXTS, reversed(TEXTS), strict=True)]
    embedder = Embedder(cross_encoder, "score", ["query", "passage"], on_error="null")
    found = embedder([*rows, {"query": "a", "passage": None}])
    cut = {"truncate_prompt_tokens": -1}
    outputs = LLM(cross_encoder).score(TEXTS, TEXTS[::-1], use_tqdm=False, tokenization_kwargs=cut)
    assert [row["score"] for row in found[:-1]] == [o.outputs.score for o in outputs]
    assert found[-1]["score"] is None and found[-1]["error"] == "null instead of a text"


def test_rewards_are_floats(cross_encoder):
    found = Embedder(cross_encoder, "reward", use_activation=False)(rows_of("table"))["reward"]
    params = PoolingParams(use_activation=False)
    wanted = encoded(cross_encoder, "classify", pooling_params=params)
    assert found.type == pa.float32()
    np.testing.assert_array_equal(np.array(found.to_pylist(), np.float32), np.ravel(wanted))


def test_sparse_weights(splade):
    found = Embedder(splade, "sparse")(rows_of("table"))["sparse"]
    assert str(found.type) == "list<item: struct<id: int32, weight: float>>"
    for row, wanted in zip(found.to_pylist(), encoded(splade, "sparse"), strict=True):
        assert [one["id"] for one in row] == np.flatnonzero(wanted).tolist()
        weights = np.array([one["weight"] for one in row], np.float32)
        np.testing.assert_array_equal(weights, wanted[wanted != 0])


def test_entities_are_spans(tagger):
    rows = [*rows_of("rows"), {"id": 0, "text": None}]
    found = Embedder(tagger, "entities", aggregation="first", on_error="null")(
        pa.Table.from_pylist(rows)
    )["entities"].to_pylist()
    cut = {"truncate_prompt_tokens": -1}
    wanted = LLM(tagger).entities(
        TEXTS, aggregation="first", use_tqdm=False, tokenization_kwargs=cut
    )
    assert found[-1] is None and sum(map(len, wanted)) > 4
    for spans, entities in zip(found, wanted, strict=False):
        assert [(s["label"], s["start"], s["end"], s["text"]) for s in spans] == [
            (e.label, e.start, e.end, e.text) for e in entities
        ]


def test_several_tasks_of_one_forward(toy):
    found = Embedder(toy, "embed&token_embed")(rows_of("arrays"))
    np.testing.assert_allclose(found["embedding"], encoded(toy, "embed"), atol=1e-6)
    assert [v.shape for v in found["token_embeddings"]] == [
        v.shape for v in encoded(toy, "token_embed")
    ]


def test_no_rows_have_the_same_schema(toy):
    whole = Embedder(toy, on_error="null")(rows_of("table"))
    none = Embedder(toy, on_error="null")(rows_of("table").slice(0, 0))
    assert none.num_rows == 0 and none.schema == whole.schema


def test_prompts_and_other_options(toy, llm):
    cut = {"truncate_prompt_tokens": -1}
    (output,) = llm.embed([TEXTS[0]], use_tqdm=False, tokenization_kwargs=cut, prompt_name="query")
    found = Embedder(toy, prompt_name="query")([{"text": TEXTS[0]}])
    np.testing.assert_array_equal(found[0]["embedding"], np.float32(output.outputs.embedding))


CODE = """
import pickle, sys
embedder = pickle.load(sys.stdin.buffer)
print(embedder([{"text": "a cat purrs"}])[0]["embedding"].tobytes().hex())
"""


def test_an_embedder_pickles_as_its_options(toy, wanted):
    embedder = Embedder(toy)
    embedder(rows_of("rows"))
    pickled = pickle.dumps(embedder)
    assert len(pickled) < 1000
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, input=pickled, capture_output=True, check=True)
    vector = np.frombuffer(bytes.fromhex(done.stdout.decode()), np.float32)
    np.testing.assert_allclose(vector, wanted[0], atol=1e-6)
    assert pickle.loads(pickled).model is embedder.model  # once a process


@pytest.mark.parametrize(
    "options,message",
    [
        ({"column": "body"}, r"no column 'body'; columns: \['text'\]"),
        ({"keep": ["url"]}, r"no column 'url'; columns: \['text'\]"),
        ({"on_error": "ignore"}, "on_error must be one of"),
        ({"task": "score"}, "task 'score' reads 2 column"),
        ({"task": "classify"}, "Classification API is not supported by this model"),
        ({"precision": "int4"}, "precision must be one of"),
        ({"prompt_name": "none"}, "unknown prompt_name 'none'"),
        ({"dimensions": 8}, "does not support Matryoshka"),
        ({"task": "embed&token_embed", "output": "x"}, "output names one column"),
    ],
)
def test_bad_options_are_named(options, message, toy):
    with pytest.raises(ValueError, match=message):
        Embedder(toy, **options, **({} if "on_error" in options else {"on_error": "null"}))(
            [{"text": "a"}]
        )


def test_a_loaded_model_serves_and_does_not_pickle(llm, wanted):
    embedder = Embedder(llm)
    np.testing.assert_array_equal(embedder(rows_of("arrays"))["embedding"], wanted)
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(embedder)
    with pytest.raises(TypeError, match="rows must be a pyarrow Table"):
        embedder(["a text"])
