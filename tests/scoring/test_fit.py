"""What truncation cuts of a reranker's prompt is content: the template stays whole."""

import pytest

from converters.files.locate import resolve
from jaxpool import offline
from jaxpool.errors import RequestError
from jaxpool.scoring.fit import fit
from jaxpool.text.options import Tokenization
from jaxpool.text.tokenizer import Tokenizer
from tests.conftest import MINILM

LONG = "cat dog " * 40


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(resolve(MINILM))


def render(asked):
    return [f"query {q} : {' ; '.join(documents)} . answer now" for q, *documents in asked]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("asked", [("hello", LONG), (LONG, LONG), ("hello", LONG, "one", LONG)])
def test_the_end_of_the_template_stays(tokenizer, asked, special):
    options = Tokenization(64, truncate=32, special_tokens=special)
    prompts, fitted, cut = fit(tokenizer, render, [asked, ("hello", "cat")], options)
    assert render(fitted) == prompts and cut == [True, False]
    assert prompts[1] == "query hello : cat . answer now"
    assert prompts[0].startswith("query ") and prompts[0].endswith(". answer now")
    tokens = [len(t.ids) for t in tokenizer(prompts, special_tokens=special)]
    assert tokens[0] == 32
    if asked[0] == "hello":
        assert prompts[0].startswith("query hello :")  # documents are cut first


def test_the_left_side_keeps_the_end_by_itself(tokenizer):
    options = Tokenization(64, truncate=32, side="left")
    asked = [("a", LONG)]
    assert fit(tokenizer, render, asked, options) == (render(asked), asked, [False])


def test_a_template_that_does_not_fit_is_an_error(tokenizer):
    with pytest.raises(RequestError, match="template alone has . tokens more than the limit of 5"):
        fit(tokenizer, render, [("hello", LONG)], Tokenization(64, truncate=5))


def test_the_first_cut_of_a_model_is_told_once(bert_llm, caplog):
    offline._tell.cache_clear()
    cut = {"tokenization_kwargs": {"truncate_prompt_tokens": 5}, "use_tqdm": False}
    with caplog.at_level("WARNING", "jaxpool"):
        bert_llm.embed("hello", **cut)
        assert not caplog.records
        for _ in range(2):
            bert_llm.embed([LONG, "hello"], **cut)
    assert [r.getMessage().count("texts are cut") for r in caplog.records] == [1]


def test_what_was_cut_says_so(tokenizer):
    options = Tokenization(64, truncate=8)
    assert [t.cut for t in options.encode(tokenizer, [LONG, "hello"])] == [True, False]
    assert options.of_ids(tokenizer, list(range(20))).cut
