"""Texts beyond the model's length: chunked embeddings and late chunking."""

from functools import partial

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

from jaxpool import LLM, PoolingParams
from jaxpool.engine import serialized
from jaxpool.text.long_text import split
from tests.small import DIM, randomize, vectors

LONG = "the quick brown fox jumps over the lazy dog, again and again " * 12
SHORT = "one short text"
LIMIT = 64


def chunked(bert, **config):
    return LLM(str(bert), pooler_config={"enable_chunked_processing": True, **config})


@pytest.mark.parametrize("special", [True, False])
def test_chunks_are_averaged_by_tokens(special, bert, bert_llm):
    llm = chunked(bert, chunk_special_tokens=special)
    (output,) = llm.embed(LONG, use_tqdm=False)
    ids = output.prompt_token_ids
    assert len(ids) > 2 * LIMIT and (ids[0], ids[-1]) == (101, 102)
    inner = ids[1:-1]
    pieces = (
        [[101, *inner[i : i + LIMIT - 2], 102] for i in range(0, len(inner), LIMIT - 2)]
        if special
        else [ids[i : i + LIMIT] for i in range(0, len(ids), LIMIT)]
    )
    parts = vectors(bert_llm, pieces)
    mean = np.average(parts, axis=0, weights=[len(piece) for piece in pieces])
    wanted = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(output.outputs.embedding, wanted, atol=1e-5)


def test_short_texts_are_not_touched_and_order_stays(bert, bert_llm):
    llm = chunked(bert)
    texts = [SHORT, LONG, "another one", LONG[:500], ""]
    ours = vectors(llm, texts)
    short = vectors(bert_llm, [texts[i] for i in (0, 2, 4)])
    np.testing.assert_allclose(ours[[0, 2, 4]], short, atol=1e-6)
    np.testing.assert_allclose(ours[1], vectors(llm, [LONG])[0], atol=1e-6)


def test_raw_chunks_are_not_normalized(bert):
    params = PoolingParams(use_activation=False)
    norm = np.linalg.norm(vectors(chunked(bert), [LONG], pooling_params=params))
    assert abs(norm - 1) > 0.1


def test_ids_without_special_tokens_stay_without(bert):
    from jaxpool.text.prepared import Prepared

    pieces = split(Prepared(np.arange(200, 290, dtype=np.int32)), 40, ([101], [102]))
    assert [len(piece.ids) for piece in pieces] == [40, 40, 10]
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == list(range(200, 290))


def test_limits_of_chunked_embeddings(bert):
    llm = chunked(bert, max_embed_len=100)
    with pytest.raises(ValueError, match="maximum context length is 100 tokens"):
        llm.embed(LONG, use_tqdm=False)
    options = {"truncate_prompt_tokens": -1}
    (output,) = llm.embed(LONG, use_tqdm=False, tokenization_kwargs=options)
    assert len(output.prompt_token_ids) == 100
    with pytest.raises(ValueError, match="truncate_prompt_tokens value is greater than max_model"):
        llm.embed(LONG, tokenization_kwargs={"truncate_prompt_tokens": LIMIT + 1})
    with pytest.raises(ValueError, match="maximum context length is 64 tokens"):
        llm.encode(LONG, pooling_task="token_embed", use_tqdm=False)


def test_max_embed_len_alone_is_the_limit(bert):
    llm = LLM(str(bert), pooler_config={"max_embed_len": 8})
    with pytest.raises(ValueError, match="maximum context length is 8 tokens"):
        llm.embed("one two three four five six seven eight", use_tqdm=False)


TEXT = "Berlin is the capital of Germany. It has a wall, once. People like it."


@pytest.fixture(scope="module")
def projected(bert, tmp_path_factory):
    """A model whose head follows the pooling, and the reference."""
    modules = [Pooling(DIM), Dense(DIM, 24), Normalize()]
    for module in modules:
        randomize(module)
    model = SentenceTransformer(modules=[Transformer(str(bert)), *modules], device="cpu")
    folder = tmp_path_factory.mktemp("late")
    model.save(str(folder))
    return model, LLM(str(folder))


def late(llm, params, text=TEXT, **options):
    params = PoolingParams(late_chunking_params=params)
    (output,) = llm.encode(text, params, pooling_task="token_embed", use_tqdm=False, **options)
    return output


def reference(model, spans, text=TEXT):
    """The head of the mean of each span's hidden states."""
    features = model.preprocess([text])
    with torch.no_grad():
        hidden = model[0](features)["token_embeddings"][0]
        means = torch.stack([hidden[start:end].mean(0) for start, end in spans])
        return torch.nn.Sequential(*list(model)[2:])({"sentence_embedding": means})[
            "sentence_embedding"
        ].numpy()


def test_late_chunks_of_tokens(projected):
    model, llm = projected
    output = late(llm, {"chunk_size": 5})
    count = len(output.prompt_token_ids)
    facts = output.late_chunking
    spans = [(start, min(start + 5, count)) for start in range(0, count, 5)]
    assert [chunk.token_range for chunk in facts.chunks] == spans
    assert (facts.chunk_size, facts.input_tokens, facts.strategy) == (5, count, "fixed_tokens")
    assert facts.chunks[0].char_range == (0, len("Berlin is the capital"))
    np.testing.assert_allclose(output.outputs.data, reference(model, spans), atol=1e-5)


def test_late_chunks_of_characters(projected):
    model, llm = projected
    ends = [i + 1 for i, c in enumerate(TEXT) if c == "."]
    spans = list(zip([0, *ends], ends, strict=False))
    output = late(llm, {"char_spans": spans})
    facts = output.late_chunking
    assert [chunk.char_range for chunk in facts.chunks] == spans
    assert facts.strategy == "char_spans" and facts.chunks[0].token_range == (1, 8)
    wanted = reference(model, [chunk.token_range for chunk in facts.chunks])
    np.testing.assert_allclose(output.outputs.data, wanted, atol=1e-5)
    shifted = late(llm, {"char_spans": spans}, prompt="passage: ")
    assert [chunk.char_range for chunk in shifted.late_chunking.chunks] == spans
    assert shifted.late_chunking.chunks[0].token_range == (3, 10)


def test_late_chunks_of_many_texts(projected):
    """In rows that they share, beside texts without; chunks of few tokens take several requests."""
    model, llm = projected
    engine, texts = llm.model.engine, [LONG[:n] for n in (200, 5, 120, 33, 61, 9, 150, 12, 7, 90)]
    sizes = [32, 9, 1, 16, 8, 2, 7, 100, None, None]
    params = [PoolingParams(late_chunking_params=n and {"chunk_size": n}) for n in sizes]
    before = engine.real_tokens, engine.computed_tokens
    outputs = llm.encode(texts, params, pooling_task="token_embed", use_tqdm=False)
    real, computed = engine.real_tokens - before[0], engine.computed_tokens - before[1]
    lengths = [len(output.prompt_token_ids) for output in outputs]
    assert real > sum(lengths) and computed < 2 * real
    for text, size, output, length in zip(texts, sizes, outputs, lengths, strict=True):
        starts = range(0, length, size or 1)
        spans = [(start, min(start + (size or 1), length)) for start in starts]
        wanted = reference(model, spans, text)
        assert (output.late_chunking is None) == (size is None)
        np.testing.assert_allclose(output.outputs.data, wanted, atol=1e-5)


def test_spans_that_meet_within_a_token_share_it(projected):
    model, llm = projected
    output = late(llm, {"char_spans": [(0, 12), (12, 31)]})
    spans = [chunk.token_range for chunk in output.late_chunking.chunks]
    assert spans[0][1] > spans[1][0]
    np.testing.assert_allclose(output.outputs.data, reference(model, spans), atol=1e-5)


def test_late_chunks_are_warmed_up_and_do_not_depend_on_their_batch(bert):
    options = {"warmup": ("token_embed",), "forbid_compiles": True, "batch_invariant": True}
    llm = LLM(str(bert), max_model_len=48, max_num_batched_tokens=96, **options)
    params = [PoolingParams(late_chunking_params={"chunk_size": size}) for size in (2, 9, 30)]
    texts = [LONG[:150], TEXT, SHORT]
    for precision in ("float32", "ubinary"):
        run = partial(llm.encode, pooling_task="token_embed", precision=precision, use_tqdm=False)
        for text, one, output in zip(texts, params, run(texts, params), strict=True):
            np.testing.assert_array_equal(run(text, one)[0].outputs.data, output.outputs.data)


def test_late_chunks_of_executables_on_disk(bert, bert_llm, tmp_path):
    limits = {"max_model_len": 16, "max_num_batched_tokens": 16}
    model = LLM(str(bert), **limits).model
    serialized.save(model.executor, tmp_path, model.engine.keys([model.task("token_embed")]))
    stored = LLM(str(bert), compiled=str(tmp_path), forbid_compiles=True, **limits)
    found, wanted = (late(llm, {"chunk_size": 2}, SHORT).outputs.data for llm in (stored, bert_llm))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_one_chunk_is_the_embedding(projected):
    _, llm = projected
    np.testing.assert_allclose(
        late(llm, {"chunk_size": 2**63 - 1}).outputs.data[0], vectors(llm, [TEXT])[0], atol=1e-5
    )


def test_a_chunk_of_special_tokens_has_no_characters(projected):
    chunks = late(projected[1], {"chunk_size": 1}).late_chunking.chunks
    assert chunks[0].char_range is None and chunks[1].char_range == (0, 6)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ([101, 102], {}, "Late chunking requires nonempty plain-text input"),
        ("", {}, "Late chunking requires nonempty plain-text input"),
        *(
            (TEXT, {"tokenization_kwargs": kwargs}, "does not support input padding, truncation")
            for kwargs in (
                {"truncate_prompt_tokens": 4},
                {"pad_prompt_tokens": 40},
                {"do_lower_case": True},
            )
        ),
    ],
)
def test_late_chunking_refuses(text, options, message, bert_llm):
    with pytest.raises(ValueError, match=message):
        late(bert_llm, {"chunk_size": 4}, text, **options)


def test_a_span_without_tokens_is_refused(bert_llm):
    with pytest.raises(ValueError, match="no token lies in characters 900 to 901"):
        late(bert_llm, {"char_spans": [(0, 4), (900, 901)]})


def test_late_chunking_does_not_step(bert):
    llm = LLM(str(bert), pooler_config={"pooling_type": "STEP"})
    with pytest.raises(ValueError, match="Late chunking does not support step pooling"):
        late(llm, {"chunk_size": 4})
