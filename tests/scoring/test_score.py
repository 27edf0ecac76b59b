"""`LLM.score` against sentence-transformers: cross-encoders and bi-encoders, and its errors."""

import numpy as np
import pytest
from scoring.conftest import DOCUMENTS, QUERIES, SMALL, small_bert
from sentence_transformers import CrossEncoder
from transformers import (
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import jaxpool
from jaxpool import PoolingParams

LONG = " ".join(DOCUMENTS * 4)


@pytest.fixture(scope="module")
def folder(checkpoint):
    return checkpoint(BertForSequenceClassification, small_bert(num_labels=1), "cross")


@pytest.fixture(scope="module")
def cross(folder):
    return jaxpool.LLM(str(folder))


@pytest.fixture(scope="module")
def reference(folder):
    return CrossEncoder(str(folder), device="cpu")


def scores(outputs):
    return [output.outputs.score for output in outputs]


def test_cross_encoder(cross, reference):
    pairs = list(zip(QUERIES, DOCUMENTS, strict=True))
    outputs = cross.score(QUERIES, DOCUMENTS, use_tqdm=False)
    np.testing.assert_allclose(scores(outputs), reference.predict(pairs), atol=1e-4)
    assert [o.request_id for o in outputs] == ["0", "1", "2"]
    assert outputs[1].prompt_token_ids == reference.tokenizer(*pairs[1])["input_ids"]
    one_to_many = cross.score(QUERIES[0], DOCUMENTS, use_tqdm=False)
    wanted = reference.predict([(QUERIES[0], d) for d in DOCUMENTS])
    np.testing.assert_allclose(scores(one_to_many), wanted, atol=1e-4)


def test_pairs_are_truncated_longest_first(cross, reference):
    pairs = [(LONG, DOCUMENTS[0]), (QUERIES[0], LONG), (LONG, LONG[::-1])]
    got = cross.score(
        *map(list, zip(*pairs, strict=True)), tokenization_kwargs={"truncate_prompt_tokens": -1}
    )
    np.testing.assert_allclose(scores(got), reference.predict(pairs), atol=1e-4)
    with pytest.raises(ValueError, match="maximum context length is 128 tokens"):
        cross.score(QUERIES[0], LONG)


def test_logits(cross, reference):
    raw = cross.score(QUERIES[0], DOCUMENTS, pooling_params=PoolingParams(use_activation=False))
    pairs = [(QUERIES[0], d) for d in DOCUMENTS]
    wanted = reference.predict(pairs, activation_fn=lambda x: x)
    np.testing.assert_allclose(scores(raw), wanted, atol=1e-4)


def test_a_model_without_token_types(checkpoint):
    config = RobertaConfig(**{**SMALL, "max_position_embeddings": 130}, num_labels=1)
    folder = checkpoint(RobertaForSequenceClassification, config, "roberta")
    got = jaxpool.LLM(str(folder)).score(QUERIES, DOCUMENTS, use_tqdm=False)
    pairs = list(zip(QUERIES, DOCUMENTS, strict=True))
    wanted = CrossEncoder(str(folder), device="cpu").predict(pairs)
    np.testing.assert_allclose(scores(got), wanted, atol=1e-4)


def test_texts_are_cut_at_token_limits(cross):
    extra = {"max_tokens_per_query": 2, "max_tokens_per_doc": 5}
    cut = cross.score(QUERIES[0], LONG, pooling_params=PoolingParams(extra_kwargs=extra))
    by_hand = cross.score("How do", "A vaccine trains the immune")
    assert cut[0].prompt_token_ids == by_hand[0].prompt_token_ids
    assert scores(cut) == scores(by_hand)


def test_a_saved_template(checkpoint, bert_tokenizer):
    """A CrossEncoder that reads messages is saved with its chat template and default prompt."""
    folder = checkpoint(BertForSequenceClassification, small_bert(num_labels=1), "messages")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {{ m.content }} [SEP] {% endfor %}"
    )
    reference = CrossEncoder(
        str(folder), device="cpu", prompts={"web": "Judge."}, default_prompt_name="web"
    )
    saved = folder.parent / "saved"
    reference.save_pretrained(str(saved))
    pairs = list(zip(QUERIES, DOCUMENTS, strict=True))
    llm = jaxpool.LLM(str(saved))
    got = llm.score(QUERIES, DOCUMENTS, use_tqdm=False)
    np.testing.assert_allclose(scores(got), reference.predict(pairs), atol=1e-4)
    text = bert_tokenizer.decode(got[1].prompt_token_ids)
    assert text.startswith("system : judge. [SEP] query : capital of france [SEP] document : paris")
    mine = llm.score(QUERIES, DOCUMENTS, chat_template="basic", use_tqdm=False)
    assert bert_tokenizer.decode(mine[1].prompt_token_ids).startswith("[CLS] query : capital")


def test_a_template_with_an_error_stops_the_load(folder):
    with pytest.raises(ValueError, match="chat template, line 1: Expected an expression"):
        jaxpool.LLM(str(folder), chat_template="{% if %}")


def test_bi_encoder(minilm, reference_minilm):
    outputs = minilm.score(QUERIES, DOCUMENTS, use_tqdm=False)
    q, d = (reference_minilm.encode(texts) for texts in (QUERIES, DOCUMENTS))
    wanted = reference_minilm.similarity_pairwise(q, d)
    np.testing.assert_allclose(scores(outputs), wanted, atol=1e-5)
    assert [o.request_id for o in outputs] == ["0_3", "1_4", "2_5"]
    assert minilm.score("a", ["b", "c"], use_tqdm=False)[1].request_id == "0_2"
    ids = reference_minilm.tokenizer([QUERIES[0], DOCUMENTS[0]])["input_ids"]
    assert outputs[0].prompt_token_ids == ids[0] + [0] + ids[1]
    raw = PoolingParams(use_activation=False)
    unscaled = minilm.score(QUERIES, DOCUMENTS, pooling_params=raw, use_tqdm=False)
    np.testing.assert_allclose(scores(unscaled), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("data_1", "data_2", "message"),
    [
        (["a", "b"], ["c", "d", "e"], "Input lengths must be either 1:1, 1:N or N:N"),
        (["a", "b"], ["c"], "Input lengths must be either 1:1, 1:N or N:N"),
        ([], ["c"], "At least one text element must be given"),
        (["a"], [], "At least one text_pair element must be given"),
        ({"content": []}, "a", "MultiModalParam is not supported for BertModel"),
    ],
)
def test_bad_lists(minilm, data_1, data_2, message):
    before = minilm.model.engine.computed_tokens
    with pytest.raises(ValueError, match=message):
        minilm.score(data_1, data_2)
    assert minilm.model.engine.computed_tokens == before


def test_texts_that_are_none(minilm):
    with pytest.raises(TypeError, match="texts to score must be strings, got int"):
        minilm.score("a", ["b", 3])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"max_tokens_per_doc": -1}, "max_tokens_per_doc must be a non-negative integer"),
        ({"max_tokens_per_query": 128}, r"\(128\) must be less than max_model_len \(128\)\."),
    ],
)
def test_bad_limits(cross, extra, message):
    with pytest.raises(ValueError, match=message):
        cross.score("a", "b", pooling_params=PoolingParams(extra_kwargs=extra))


def test_models_that_do_not_score(checkpoint):
    folder = checkpoint(BertForSequenceClassification, small_bert(num_labels=3), "three")
    with pytest.raises(ValueError, match="Scoring API is only enabled for num_labels == 1."):
        jaxpool.LLM(str(folder)).score("a", "b")
