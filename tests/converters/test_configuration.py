"""config.json as plain data: kept for later starts, which then need no transformers."""

import json
import logging

import pytest
from transformers import DistilBertConfig

from converters import configuration
from converters.configuration import read_config

FIELDS = {"dim": 48, "n_layers": 3, "n_heads": 4, "id2label": {0: "no", 1: "yes", 2: "maybe"}}


@pytest.fixture
def folder(tmp_path):
    DistilBertConfig(**FIELDS, architectures=["DistilBertModel"]).save_pretrained(tmp_path)
    return tmp_path


def test_fields_are_those_of_the_transformers_object(folder):
    family, config = read_config(folder)
    reference = DistilBertConfig.from_pretrained(folder)
    assert family.name == "DistilBert"
    assert (config.hidden_size, config.dim, config.num_labels) == (48, 48, 3)
    assert config.id2label == FIELDS["id2label"]  # JSON has no integers as keys
    for name, value in reference.to_dict().items():
        assert getattr(config, name) == value, name
    config.num_labels = 3
    assert config.id2label == FIELDS["id2label"]
    config.num_labels = reference.num_labels = 1
    assert config.id2label == reference.id2label
    assert config.knows("sinusoidal_pos_embds") and not config.knows("sliding_window")


def test_a_kept_configuration_is_read_without_transformers(folder, tmp_path, monkeypatch):
    store = tmp_path / "made" / "here"
    given = {"max_position_embeddings": 64, "matryoshka_dimensions": [8]}
    wanted = [read_config(folder), read_config(folder, given)]
    assert [read_config(folder, store=store), read_config(folder, given, store=store)] == wanted
    monkeypatch.setattr(configuration, "_config", None)
    assert [read_config(folder, store=store), read_config(folder, given, store=store)] == wanted
    assert wanted[1][1].max_position_embeddings == 64
    assert len(list(store.iterdir())) == 2


@pytest.mark.parametrize("change", ["file", "overrides", "transformers"])
def test_a_kept_configuration_serves_only_what_it_was_made_of(
    folder, tmp_path, monkeypatch, change
):
    store, given = tmp_path / "store", None
    read_config(folder, store=store)
    if change == "file":
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"n_layers": 2}))
    if change == "overrides":
        given = {"n_layers": 2}
    if change == "transformers":
        monkeypatch.setattr(configuration, "version", lambda name: "0")
    family, config = read_config(folder, given, store=store)
    assert config.num_hidden_layers == (3 if change == "transformers" else 2)
    assert len(list(store.iterdir())) == 2


def test_a_function_gets_the_transformers_object(folder, tmp_path):
    store = tmp_path / "store"

    def deeper(config: DistilBertConfig) -> DistilBertConfig:
        config.n_layers += 1
        return config

    assert read_config(folder, deeper, store=store)[1].num_hidden_layers == 4
    assert not store.exists()


def test_a_store_that_cannot_be_written_is_no_error(folder, tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.touch()
    with caplog.at_level(logging.WARNING):
        assert read_config(folder, store=blocked / "store") == read_config(folder)
    assert "is not kept for later starts" in caplog.text
