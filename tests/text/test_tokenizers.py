"""Token ids equal to transformers' on real tokenizers, and whatever files a checkpoint has."""

import json
import logging
import sys

import numpy as np
import pytest
import sentencepiece
import transformers as hf
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, pre_tokenizers, processors, trainers

from benchmarks.tokenizer_parity import INSTALLED, compare, texts
from converters.files.locate import resolve
from jaxpool import info
from jaxpool.loading import load
from jaxpool.text.tokenizer import Tokenizer
from tests.conftest import MINILM


@pytest.mark.parametrize("checkpoint", INSTALLED)
def test_a_real_tokenizer_on_a_thousand_texts(checkpoint):
    assert set(compare(resolve(checkpoint)).values()) == {0}


FEW = 250  # texts: the odd ones, and some of each kind


@pytest.fixture(scope="module")
def corpus():
    """Some of the texts, to train small tokenizers on."""
    return [text.replace("\x00", "") for text in texts(FEW)]


def save_json(folder, class_name, post_processor=None, **config):
    """A byte-level BPE with <s> and </s> as tokenizer.json."""
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    fast.train_from_iterator(texts(FEW), trainer)
    fast.post_processor = post_processor
    fast.save(str(folder / "tokenizer.json"))
    facts = {"tokenizer_class": class_name, "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts | config))


EOS = processors.TemplateProcessing(
    single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
)


@pytest.mark.parametrize("class_name", ["LlamaTokenizerFast", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("post_processor", [None, EOS], ids=["none", "eos"])
@pytest.mark.parametrize("config", [{}, {"add_bos_token": True, "add_eos_token": True}], ids=str)
def test_classes_that_could_change_special_tokens(tmp_path, class_name, post_processor, config):
    save_json(tmp_path, class_name, post_processor, **config)
    assert set(compare(tmp_path, FEW).values()) == {0}


def test_only_a_vocabulary_of_word_pieces(tmp_path):
    vocab = resolve(MINILM) / "vocab.txt"
    (tmp_path / "vocab.txt").write_bytes(vocab.read_bytes())
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert set(compare(tmp_path, FEW).values()) == {0}
    wanted = Tokenizer(resolve(MINILM))(texts(FEW))
    for ours, tokens in zip(Tokenizer(tmp_path)(texts(FEW)), wanted, strict=True):
        np.testing.assert_array_equal(ours.ids, tokens.ids)


def test_only_a_vocabulary_and_merges(tmp_path):
    save_json(tmp_path, "RobertaTokenizer")
    FastTokenizer.from_file(str(tmp_path / "tokenizer.json")).model.save(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    config = {"tokenizer_class": "RobertaTokenizer", "cls_token": "<s>", "sep_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert set(compare(tmp_path, FEW).values()) == {0}
    assert Tokenizer(tmp_path).affixes == ([0], [1])


@pytest.mark.parametrize(
    ("class_name", "file", "kind", "affixes"),
    [
        ("LlamaTokenizer", "tokenizer.model", "bpe", ([1], [])),
        ("T5Tokenizer", "spiece.model", "unigram", ([], [2])),
        ("XLMRobertaTokenizer", "sentencepiece.bpe.model", "unigram", ([0], [2])),
    ],
)
def test_only_a_sentencepiece_model(tmp_path, corpus, class_name, file, kind, affixes):
    (tmp_path / "corpus.txt").write_text("\n".join(corpus), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "m"),
        vocab_size=500,
        model_type=kind,
        byte_fallback=kind == "bpe",
        character_coverage=0.99,
        minloglevel=2,
    )
    (tmp_path / "m.model").rename(tmp_path / file)
    config = {"tokenizer_class": class_name, "add_bos_token": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert set(compare(tmp_path, FEW).values()) == {0}
    tokenizer = Tokenizer(tmp_path)
    slow = sentencepiece.SentencePieceProcessor(str(tmp_path / file))
    assert tokenizer.affixes == affixes
    assert len(tokenizer(["the array"])[0].ids) == len(slow.encode("the array")) + sum(
        map(len, affixes)
    )


def test_without_sentencepiece_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "tokenizer.model").touch()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"tokenizer.model alone .*jaxpool\[sentencepiece\]"):
        Tokenizer(tmp_path)


TEMPLATE = processors.TemplateProcessing(
    single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 0)]
)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A Mistral whose files say that the end of text is added, beside a tokenizer.json without."""
    from tests.parity import SIZES, save_random

    sizes = SIZES | {"vocab_size": 400, "hidden_size": 32, "num_key_value_heads": 2}
    folder = tmp_path_factory.mktemp("ended")
    save_random(hf.MistralModel, hf.MistralConfig(**sizes), folder)
    save_json(folder, "LlamaTokenizer", TEMPLATE, add_eos_token=True)
    return folder


def test_the_end_of_text_that_the_files_promise_is_added(ended, caplog):
    """e5-mistral pools it, and transformers 5 leaves it out."""
    with caplog.at_level(logging.WARNING, "jaxpool"):
        tokenizer = load(str(ended)).tokenizer
    assert caplog.text.count("'</s>' is put after each text") == 1
    bare = load(str(ended), add_eos_token=False)
    told = {fact.name: fact.value for fact in info.describe(str(ended))}
    assert bare.fingerprint != told["fingerprint"] == load(str(ended)).fingerprint
    plain = bare.tokenizer
    for text in ("the array", "a" * 80):
        ids = plain([text])[0].ids.tolist()
        assert tokenizer([text])[0].ids.tolist() == [*ids, 1]
        assert tokenizer([text], truncate=5)[0].ids.tolist() == [*ids[:4], 1]
    (pair,) = tokenizer([("a", "b")])
    ids, types = plain([("a", "b")])[0][:2]
    assert pair.ids.tolist() == [*ids[:2], 1, *ids[2:], 1]
    assert types.tolist() == [0, 0, 1, 1] and pair.types.tolist() == [0, 0, 0, 1, 1, 1]
    assert "end of text" in told


def test_means_are_of_the_text_alone_unless_asked(ended):
    mean = {"pooler_config": {"seq_pooling_type": "MEAN"}}
    assert load(str(ended), **mean).tokenizer.affixes == ([0], [])
    assert load(str(ended), add_eos_token=True, **mean).tokenizer.affixes == ([0], [1])
