"""Prompts by what a text is for: the names of checkpoints and of clients, the default, the log."""

import json
import shutil

import numpy as np
import pytest

import jaxpool
from jaxpool import LLM
from jaxpool.tasks.input_types import find
from jaxpool.text import instructions
from tests.small import vectors

TEXT = ["Berlin is the capital of Germany"]
# The names of published checkpoints' prompts.
PLAIN = {"query": "query: ", "passage": "passage: "}
NOMIC = {
    "search_query": "search_query: ",
    "search_document": "search_document: ",
    "classification": "classification: ",
    "clustering": "clustering: ",
}
GEMMA = {
    "Retrieval-query": "task: search result | query: ",
    "Retrieval-document": "title: none | text: ",
    "Clustering": "task: clustering | query: ",
    "Classification": "task: classification | query: ",
}
JINA = {"retrieval.query": "q ", "retrieval.passage": "d ", "separation": "s "}
ASYMMETRIC = {"query": "Instruct: find\nQuery:"}


@pytest.fixture
def model(bert, tmp_path):
    def make(prompts, default=None, **options):
        folder = shutil.copytree(bert, tmp_path / "model", dirs_exist_ok=True)
        modules = [{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        (folder / "1_Pooling" / "config.json").write_text("{}")
        facts = {"prompts": prompts, "default_prompt_name": default}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(facts))
        return LLM(str(folder), **options)

    return make


@pytest.mark.parametrize(
    "asked, names, wanted",
    [
        ("query", PLAIN, "query"),
        ("document", PLAIN, "passage"),
        ("passage", PLAIN, "passage"),
        ("search_document", PLAIN, "passage"),
        ("search_query", PLAIN, "query"),
        ("classification", PLAIN, None),
        ("query", NOMIC, "search_query"),
        ("document", NOMIC, "search_document"),
        ("passage", NOMIC, "search_document"),
        ("classification", NOMIC, "classification"),
        ("clustering", NOMIC, "clustering"),
        ("query", GEMMA, "Retrieval-query"),
        ("passage", GEMMA, "Retrieval-document"),
        ("classification", GEMMA, "Classification"),
        ("search_query", JINA, "retrieval.query"),
        ("document", JINA, "retrieval.passage"),
        ("clustering", JINA, "separation"),
        ("Retrieval-query", GEMMA, "Retrieval-query"),
        ("document", ASYMMETRIC, None),
        ("query", {}, None),
        (None, PLAIN, None),
    ],
)
def test_names_for_one_use(asked, names, wanted):
    assert find(asked, names) == wanted


def test_an_input_type_is_its_prompt(model):
    llm = model(NOMIC)
    for asked, name in (("query", "search_query"), ("clustering", "clustering")):
        ours = vectors(llm, TEXT, input_type=asked)
        np.testing.assert_array_equal(ours, vectors(llm, TEXT, prompt_name=name))
        assert np.abs(ours - vectors(llm, TEXT)).max() > 1e-3
        np.testing.assert_array_equal(ours, llm.model.encode(TEXT, input_type=asked))
    both = vectors(llm, TEXT, input_type="query", prompt_name="clustering")
    np.testing.assert_array_equal(both, vectors(llm, TEXT, prompt_name="clustering"))


def test_documents_of_a_model_whose_queries_alone_have_a_prompt(model):
    llm = model(ASYMMETRIC)
    plain = vectors(llm, TEXT, prompt="")
    np.testing.assert_array_equal(vectors(llm, TEXT, input_type="document"), plain)
    assert np.abs(vectors(llm, TEXT, input_type="query") - plain).max() > 1e-3


def test_what_a_model_does_not_have_is_refused_with_what_it_has(model, bert_llm):
    with pytest.raises(ValueError, match="Supported values: passage, query"):
        vectors(model(PLAIN), TEXT, input_type="clustering")
    with pytest.raises(ValueError, match="Supported values: passage, query"):
        model(PLAIN).model.encode(TEXT, input_type="clustering")
    with pytest.raises(ValueError, match="does not define any input_type"):
        vectors(bert_llm, TEXT, input_type="query")


def test_a_default_prompt_is_for_texts_that_come_without_one(model):
    llm = model(PLAIN, default_prompt_name="passage")
    np.testing.assert_array_equal(vectors(llm, TEXT), vectors(llm, TEXT, prompt_name="passage"))
    np.testing.assert_array_equal(llm.model.encode(TEXT), vectors(llm, TEXT))
    np.testing.assert_array_equal(
        vectors(llm, TEXT, input_type="query"), vectors(llm, TEXT, prompt_name="query")
    )
    bare = vectors(llm, TEXT, prompt="")
    np.testing.assert_array_equal(llm.model.encode(TEXT, prompt=""), bare)
    assert np.abs(vectors(llm, TEXT) - bare).max() > 1e-3
    assert llm.model.fingerprint != model(PLAIN).model.fingerprint
    with pytest.raises(ValueError, match="unknown prompt_name 'qeury'"):
        model(PLAIN, default_prompt_name="qeury")


def test_scores_take_no_prompt_but_the_default(model):
    plain = model({}).score("a cat", TEXT, use_tqdm=False)[0].outputs.score
    assert model(PLAIN).score("a cat", TEXT, use_tqdm=False)[0].outputs.score == plain
    own = model(PLAIN, default_prompt_name="query").score("a cat", TEXT, use_tqdm=False)
    assert own[0].outputs.score != plain


def test_a_call_that_names_none_says_so_once(model, caplog):
    instructions._mention.cache_clear()
    llm = model(PLAIN)
    vectors(llm, TEXT, input_type="query")
    llm.model.encode(TEXT)
    assert not caplog.records
    vectors(llm, TEXT)
    vectors(llm, TEXT)
    (record,) = caplog.records
    assert "trained with prompts (query, passage)" in record.getMessage()
    caplog.clear()
    vectors(model({"query": "", "document": ""}), TEXT)
    vectors(model(PLAIN, default_prompt_name="query"), TEXT)
    assert not caplog.records


def test_info_shows_the_table(model):
    from jaxpool.info import describe

    folder = model(PLAIN, "query").model.checkpoint.folder
    facts = {fact.name: fact.value for fact in describe(str(folder))}
    assert facts["prompt 'query'"] == "'query: '" and facts["default prompt"] == "'query'"


def test_adapters_by_input_type():
    model = type("Model", (), {"adapters": ("retrieval.query", "retrieval.passage")})()
    from jaxpool.text.prepare import _adapted

    assert _adapted(model, None, "query").task == "retrieval.query"
    chosen = jaxpool.PoolingParams(task="retrieval.passage")
    assert _adapted(model, chosen, "query") is chosen
    assert _adapted(model, None, None) is None
