"""Which position a token has, and which it sees, where a configuration is odd."""

import json

import pytest
import transformers as hf

from converters.checkpoint import open_checkpoint
from tests import parity
from tests.parity import SIZES, check_packed, reference, save_random

LONG = {**SIZES, "max_position_embeddings": 160}
DECODER = {**SIZES, "num_key_value_heads": 2, "hidden_size": 32}


def compare(folder, model_class) -> None:
    """Assert that packed hidden states are those of each text alone in torch."""
    model = model_class.from_pretrained(folder).eval()
    ids = parity.texts(SIZES["vocab_size"])
    check_packed(folder, reference(model, ids, False, "last_hidden_state"))


def with_padding(token: int):
    """The usual texts, some of whose tokens are the padding token."""

    def texts(vocab, seed=0, made=parity.texts):
        ids = made(vocab, seed)
        for text in ids:
            text[[0, 2, len(text) - 1]] = token
        return ids

    return texts


@pytest.mark.parametrize(
    ("name", "padding"), [("Roberta", 1), ("Roberta", 7), ("XLMRoberta", 0), ("MPNet", 1)]
)
def test_the_padding_token_within_a_text(tmp_path, monkeypatch, name, padding):
    monkeypatch.setattr(parity, "texts", with_padding(padding))
    config = getattr(hf, f"{name}Config")(**LONG, pad_token_id=padding)
    model_class = getattr(hf, f"{name}Model")
    compare(save_random(model_class, config, tmp_path), model_class)


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra"])
def test_an_encoder_that_is_a_decoder(tmp_path, name):
    config = getattr(hf, f"{name}Config")(**LONG, is_decoder=True)
    model_class = getattr(hf, f"{name}Model")
    compare(save_random(model_class, config, tmp_path), model_class)


def test_a_stray_field_does_not_turn_fewer_features(tmp_path):
    folder = save_random(hf.LlamaModel, hf.LlamaConfig(**DECODER), tmp_path)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"partial_rotary_factor": 0.5}))
    compare(folder, hf.LlamaModel)


def test_a_field_of_the_class_does(tmp_path):
    config = hf.Phi3Config(**DECODER, pad_token_id=0, partial_rotary_factor=0.5)
    folder = save_random(hf.Phi3Model, config, tmp_path)
    compare(folder, hf.Phi3Model)
    assert open_checkpoint(folder).arch.rotary[0].dim == DECODER["hidden_size"] // 8
