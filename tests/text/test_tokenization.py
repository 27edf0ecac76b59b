"""Truncation equal to the `tokenizers` library's, and every option of tokenization_kwargs."""

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer as FastTokenizer

from converters.files.locate import resolve
from jaxpool.errors import RequestError
from jaxpool.text import prepare
from jaxpool.text.options import Tokenization
from jaxpool.text.tokenizer import FEW, Tokenizer
from tests.conftest import MINILM

LIMIT = 32
SHORT = "cats chase mice"
LONG = "the quick brown fox jumps over the lazy dog while the tokenizer counts every single word "
TEXTS = ["", "hi", SHORT, LONG, LONG * 3]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(resolve(MINILM))


@pytest.fixture(scope="module")
def fast():
    tokenizer = FastTokenizer.from_file(str(resolve(MINILM) / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pairs", [False, True])
def test_truncation_is_that_of_the_library(tokenizer, fast, side, pairs):
    inputs = list(itertools.product(TEXTS, TEXTS)) if pairs else TEXTS
    for limit in (4, 7, 8, 21, 64):
        fast.enable_truncation(limit, strategy="longest_first", direction=side)
        wanted = fast.encode_batch(inputs)
        ours = tokenizer(inputs, limit, side, offsets=True)
        for tokens, encoding in zip(ours, wanted, strict=True):
            assert tokens.ids.tolist() == encoding.ids
            types = [0] * len(tokens.ids) if tokens.types is None else tokens.types.tolist()
            assert types == encoding.type_ids
            assert tokens.offsets.tolist() == [list(pair) for pair in encoding.offsets]


def test_many_texts_at_once_give_what_each_gives_alone(tokenizer):
    many = [*TEXTS, *map("".join, itertools.product(TEXTS, TEXTS))] * 4
    assert len(many) > FEW
    for together, text in zip(tokenizer(many), many, strict=True):
        (alone,) = tokenizer([text])
        assert together.ids.tolist() == alone.ids.tolist()


def test_a_token_of_a_text_that_the_model_does_not_have_is_refused(tokenizer):
    small = SimpleNamespace(vocab=1000, layers=1, patches=None)
    model = SimpleNamespace(tokenizer=tokenizer, padded=None, arch=small)
    with pytest.raises(RequestError, match="out of vocabulary"):
        prepare.encode(model, ["hi"], Tokenization.of(None, 64))


def test_threads_share_a_tokenizer(tokenizer):
    limits = [4, 9, 16, None] * 25
    alone = [tokenizer(TEXTS, limit) for limit in limits]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda limit: tokenizer(TEXTS, limit), limits))
    for a, b in zip(alone, together, strict=True):
        assert [t.ids.tolist() for t in a] == [t.ids.tolist() for t in b]


def encode(tokenizer, text, **options):
    tokenization = Tokenization.of(options, LIMIT)
    if isinstance(text, list):
        tokens = tokenization.of_ids(tokenizer, text)
    else:
        (tokens,) = tokenization.encode(tokenizer, [text])
    return tokenization.padded(tokens, tokenizer).ids.tolist()


def test_without_a_side_special_tokens_survive(tokenizer):
    whole = encode(tokenizer, LONG)
    assert encode(tokenizer, LONG, truncate_prompt_tokens=6) == [*whole[:5], whole[-1]]
    for options in ({"truncation": True, "max_length": 6}, {"truncation": "longest_first"}):
        count = options.get("max_length", LIMIT)
        assert len(encode(tokenizer, LONG * 2, **options)) == count


def test_a_side_slices_the_finished_ids(tokenizer):
    whole = encode(tokenizer, LONG)
    for side, wanted in (("left", whole[-6:]), ("right", whole[:6])):
        options = {"truncate_prompt_tokens": 6, "truncation_side": side}
        assert encode(tokenizer, LONG, **options) == wanted
    assert encode(tokenizer, LONG, truncation_side="left") == whole


def test_ids_are_sliced(tokenizer):
    ids = list(range(100, 110))
    assert encode(tokenizer, ids, truncate_prompt_tokens=4) == ids[:4]
    options = {"truncate_prompt_tokens": 4, "truncation_side": "left"}
    assert encode(tokenizer, ids, **options) == ids[-4:]


def test_minus_one_is_the_models_limit(tokenizer):
    assert len(encode(tokenizer, LONG * 3, truncate_prompt_tokens=-1)) == LIMIT


def test_padding_counts_and_follows_truncation(tokenizer):
    whole = encode(tokenizer, SHORT)
    pad = tokenizer.pad_id
    assert encode(tokenizer, SHORT, pad_prompt_tokens=8) == whole + [pad] * (8 - len(whole))
    assert len(encode(tokenizer, SHORT, padding="max_length")) == LIMIT
    assert encode(tokenizer, SHORT, padding="do_not_pad") == whole
    cut = {"truncate_prompt_tokens": 3, "truncation_side": "left", "pad_prompt_tokens": 5}
    assert encode(tokenizer, SHORT, **cut) == [*whole[-3:], pad, pad]


def test_case_and_special_tokens(tokenizer):
    whole = encode(tokenizer, SHORT)
    assert encode(tokenizer, SHORT, add_special_tokens=False) == whole[1:-1]
    cased = Tokenization.of({"do_lower_case": True}, LIMIT)
    assert cased.lower_case and not Tokenization.of({}, LIMIT).lower_case


def test_unknown_options_are_logged_and_ignored(tokenizer, caplog):
    with caplog.at_level(logging.WARNING, "jaxpool"):
        encode(tokenizer, SHORT, stride=3, needs_detokenization=True)
    assert "stride" in caplog.text and "needs_detokenization" not in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation_side": "middle"}, "`truncation_side` must be either 'left' or 'right'."),
        (
            {"truncate_prompt_tokens": LIMIT + 1},
            "truncate_prompt_tokens value is greater than max_model_len. "
            "Please request a smaller truncation size.",
        ),
    ],
)
def test_options_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Tokenization.of(options, LIMIT)


def test_very_long_text_is_refused_by_its_characters(tokenizer):
    text = "a" * (LIMIT * tokenizer.longest_token + 1)
    with pytest.raises(ValueError, match=rf"contains {len(text)} characters \(more than"):
        encode(tokenizer, text)
    assert len(encode(tokenizer, text, truncate_prompt_tokens=-1)) <= LIMIT


def test_affixes(tokenizer):
    cls, sep = tokenizer.fast.token_to_id("[CLS]"), tokenizer.fast.token_to_id("[SEP]")
    assert tokenizer.affixes == ([cls], [sep])
    assert np.all(np.array(tokenizer(["a"])[0].ids)[[0, -1]] == [cls, sep])
