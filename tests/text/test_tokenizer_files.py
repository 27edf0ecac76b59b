"""Every file that decides ids is read: the class and its fields, and the places that add tokens."""

import json
import logging
import sys

import pytest
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import models, normalizers, pre_tokenizers, processors

from converters.report import CheckpointError
from converters.tokenizer import bare_tokenizer
from jaxpool.text.tokenizer import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "hello", "cat", "a", "Hello", "Cat", "éte", "Éte", "ete", "<", ">", "ent"]
ENTRY = {"content": "<ent>", "lstrip": False, "rstrip": False, "normalized": True}
ENTRY |= {"single_word": False, "special": False}


def save(folder, lowercase=True, **config):
    """A folder with the tokenizer.json of a few word pieces, and what stands beside it."""
    fast = FastTokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast.add_special_tokens(SPECIAL)
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast.save(str(folder / "tokenizer.json"))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    said = dict(zip(names, SPECIAL, strict=True)) | config
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


def pieces(folder, text: str) -> list[str]:
    tokenizer = Tokenizer(folder)
    return [tokenizer.fast.id_to_token(int(i)) for i in tokenizer([text])[0].ids][1:-1]


@pytest.mark.parametrize("name", ["BertTokenizer", "BertTokenizerFast"])
@pytest.mark.parametrize(
    ("flags", "lowercase", "text", "wanted"),
    [
        ({"do_lower_case": False}, True, "Hello cat", ["Hello", "cat"]),
        ({"do_lower_case": True}, False, "Hello Cat", ["hello", "cat"]),
        ({}, False, "Hello Cat", ["hello", "cat"]),
        ({"do_lower_case": True, "strip_accents": False}, True, "Éte", ["éte"]),
        ({"do_lower_case": True}, False, "Éte", ["ete"]),
    ],
    ids=["cased", "uncased", "the class's default", "accents", "no accents"],
)
def test_fields_win_over_the_normalizer(tmp_path, name, flags, lowercase, text, wanted):
    assert pieces(save(tmp_path, lowercase, tokenizer_class=name, **flags), text) == wanted


@pytest.mark.parametrize(
    ("said", "added"),
    [
        ({"added_tokens_decoder": {str(len(WORDS)): ENTRY}}, None),
        ({}, {"<ent>": len(WORDS)}),
        ({"additional_special_tokens": ["<ent>"]}, None),
        ({"extra_special_tokens": ["<ent>"]}, None),
    ],
    ids=["added_tokens_decoder", "added_tokens.json", "additional", "extra"],
)
def test_added_tokens_are_one_token(tmp_path, said, added):
    save(tmp_path, tokenizer_class="PreTrainedTokenizerFast", **said)
    if added:
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    assert pieces(tmp_path, "a <ent> cat") == ["a", "<ent>", "cat"]


@pytest.mark.parametrize(
    ("said", "typed"),
    [
        ({"tokenizer_class": "BertTokenizer"}, True),
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, True),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
    ],
)
def test_token_types_are_of_models_that_read_them(tmp_path, said, typed):
    (tokens,) = Tokenizer(save(tmp_path, **said))([("cat", "a")])
    assert (None if tokens.types is None else tokens.types.tolist()) == (
        [0, 0, 0, 1, 1] if typed else None
    )


def test_a_later_start_reads_what_was_kept(tmp_path, monkeypatch):
    folder, store = save(tmp_path, truncation_side="left", model_max_length=9), tmp_path / "store"
    first = Tokenizer(folder, store=store)
    monkeypatch.setitem(sys.modules, "transformers", None)
    later = Tokenizer(folder, store=store)
    assert later.facts == first.facts and later.side == "left" and later.max_length == 9
    assert later(["Hello cat"])[0].ids.tolist() == first(["Hello cat"])[0].ids.tolist()
    (folder / "added_tokens.json").write_text(json.dumps({"<ent>": len(WORDS)}))
    with pytest.raises(ImportError):  # a changed file is no longer what was kept
        Tokenizer(folder, store=store)


def test_a_class_of_another_kind_of_tokenizer_is_not_taken(tmp_path, caplog):
    """Qwen 2's class would read a vocabulary of word pieces as bytes."""
    save(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with caplog.at_level(logging.WARNING, "jaxpool"):
        assert pieces(tmp_path, "hello cat") == ["hello", "cat"]
    assert "read without that class" in caplog.text


def test_code_of_the_checkpoint_is_not_run(tmp_path, caplog):
    save(tmp_path, tokenizer_class="OwnTokenizer", auto_map={"AutoTokenizer": ["own.Own", None]})
    (tmp_path / "own.py").write_text("raise SystemExit('run')")
    with caplog.at_level(logging.WARNING, "jaxpool"):
        assert pieces(tmp_path, "hello cat") == ["hello", "cat"]


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"the tokenizer of {tmp_path} cannot be read"):
        Tokenizer(tmp_path)


def test_a_byte_order_mark(tmp_path):
    """transformers refuses it; the file alone, as of a static model, is read without it."""
    file = save(tmp_path) / "tokenizer.json"
    wanted, _ = bare_tokenizer(tmp_path)
    file.write_text(file.read_text("utf-8"), "utf-8-sig")
    found, _ = bare_tokenizer(tmp_path)
    assert found.to_str() == wanted.to_str()
    with pytest.raises(CheckpointError, match=f"{tmp_path} cannot be read: .* UTF-8 BOM"):
        Tokenizer(tmp_path)
