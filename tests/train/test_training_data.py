"""Where examples come from, how datasets are mixed, and what a run tells on its way."""

import json
import sys
from types import SimpleNamespace

import datasets
import jax
import numpy as np
import optax
import pyarrow
import pytest
from pyarrow import parquet

import jaxpool
from jaxpool.engine.batch import Request
from jaxpool.train import losses
from jaxpool.train.data import Batches, examples
from jaxpool.train.options import read_options
from jaxpool.train.packing import training_batch
from jaxpool.train.reports import HISTORY, past
from jaxpool.train.trainer import Trainer
from tests.train.test_trainer import losses_of, options, pairs

SLOW = pytest.mark.slow
ROWS = [{"anchor": f"question {i}", "positive": f"answer {i}", "score": i / 4} for i in range(4)]


def test_sources_agree(tmp_path):
    lines, table = tmp_path / "rows.jsonl", tmp_path / "rows.parquet"
    lines.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), table)
    hugging_face = datasets.Dataset.from_list(ROWS)
    for source in (ROWS, lines, str(table), hugging_face, hugging_face.to_iterable_dataset()):
        found = examples(source)
        assert found.columns == ("anchor", "positive")
        assert found.texts == [(row["anchor"], row["positive"]) for row in ROWS]
        np.testing.assert_array_equal(found.labels, [row["score"] for row in ROWS])


def test_bad_sources(tmp_path):
    with pytest.raises(ValueError, match="wanted .jsonl or .parquet"):
        examples(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"example 1: wanted columns \('a',\), found \('b',\)"):
        examples([{"a": "x"}, {"b": "y"}])
    with pytest.raises(ValueError, match="an example is a mapping or a tuple, found str"):
        examples(["text"])
    with pytest.raises(ValueError, match="labels: wanted the same number"):
        examples([("a", "b", [1.0, 2.0]), ("c", "d", [1.0])])
    with pytest.raises(ValueError, match="mix must be"):
        Batches([4], 2, mix="random")


@pytest.mark.parametrize("mix, turns", [("proportional", (8, 2)), ("round_robin", (2, 2))])
def test_mixes_of_datasets(mix, turns):
    batches = Batches([32, 8], 4, mix=mix)
    epoch = [next(iter(batches.from_step(i))) for i in range(batches.per_epoch)]
    which = [dataset for dataset, _ in epoch]
    assert (which.count(0), which.count(1)) == turns
    for dataset, most in enumerate((32, 8)):
        seen = np.concatenate([indices for d, indices in epoch if d == dataset])
        assert len(set(seen)) == len(seen) == 4 * turns[dataset] and max(seen) < most
    if mix == "round_robin":
        assert which == [0, 1, 0, 1]


def test_rows_are_longer_where_that_fills_them():
    """Two texts of 96 tokens share a row of 192 and not of 128; short ones fill any row."""

    def shape(size, count, max_length=128):
        texts = [Request(np.arange(size, dtype=np.int32)) for _ in range(count)]
        made = training_batch([texts], None, count, max_length)
        places = np.asarray(made.batch.segments).reshape(-1)
        assert (places > 0).sum() == size * count
        return made.batch.tokens.shape

    assert shape(96, 16) == (8, 192)
    assert shape(32, 16) == (4, 128)
    assert shape(120, 16) == (16, 128)
    assert shape(200, 4, 512) == (4, 256)


def test_no_text_twice_in_a_batch():
    texts = [[(f"question {i}", f"answer {i % 3}") for i in range(12)]]
    batches = Batches([12], 3, texts=texts)
    for _, indices in (next(iter(batches.from_step(i))) for i in range(batches.per_epoch)):
        answers = [texts[0][i][1] for i in indices]
        assert len(set(answers)) == len(answers)


@pytest.fixture
def logged(monkeypatch):
    """What a stand-in of the library wandb was told, in order."""
    told = []
    run = SimpleNamespace(
        log=lambda numbers, step: told.append((step, numbers)),
        finish=lambda: told.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda dir, config: run))
    return told


def test_two_datasets_with_prompts_reports_and_an_optimizer(bert, tmp_path, logged):
    """The first loss is that of the vectors of prompted texts; an optimizer of optax moves them."""
    sources = [
        datasets.Dataset.from_list([{"query": a, "document": b} for a, b in pairs(8)]),
        [{"query": a, "document": b} for a, b in pairs(8, seed=1)],
    ]
    settings = options(
        tmp_path,
        max_steps=3,
        prompts={"query": "query: "},
        mix="round_robin",
        report_to=("tensorboard", "wandb"),
        eval_steps=2,
    )
    trainer = Trainer(
        str(bert),
        sources,
        settings,
        evaluation=pairs(5, seed=2),
        evaluate=lambda params: {"bias": float(params["layers"]["mlp"]["up"]["bias"].sum())},
        optimizer=optax.sgd(1e-3),
    )
    which, indices = next(trainer.batches.from_step(0))
    texts = [trainer.data[which].texts[i] for i in indices]
    trainer.train()
    model = jaxpool.load(str(bert))
    asked, answers = (model.encode(list(side)) for side in zip(*texts, strict=True))
    asked = model.encode([f"query: {a}" for a, _ in texts])
    wanted = losses.info_nce(asked, answers)
    np.testing.assert_allclose(losses_of(trainer)[0], wanted, rtol=1e-5)
    assert [entry["step"] for entry in trainer.history if "bias" in entry] == [2]
    assert {"eval_loss", "bias"} <= set(next(e for e in trainer.history if "bias" in e))
    assert [step for step, numbers in logged[:-1] if "loss" in numbers] == [1, 2, 3]
    assert logged[-1] == "finished"
    assert any((tmp_path / "tensorboard").iterdir())
    start, end = model.params["layers"], trainer.params["layers"]
    assert not np.array_equal(start["mlp"]["up"]["bias"], end["mlp"]["up"]["bias"])


def test_a_history_ends_where_its_checkpoint_does(tmp_path):
    file = tmp_path / HISTORY
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in (1, 2, 3)]
    file.write_text("\n".join(lines) + '\n{"step": 4, "lo')  # killed while it wrote
    assert past(tmp_path, 2) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    assert file.read_text().splitlines() == lines[:2]
    assert past(tmp_path / "new", 0) == []


def test_reports_that_are_not_there(bert, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="report_to: unknown 'paper'"):
        Trainer(str(bert), pairs(8), options(tmp_path, report_to=("paper",))).train()
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="needs `pip install wandb`"):
        Trainer(str(bert), pairs(8), options(tmp_path, report_to=("wandb",))).train()


@SLOW
def test_bfloat16_products_with_float32_parameters(bert, tmp_path):
    """The curve of float32 within bfloat16's rounding; parameters stay float32."""
    curves = {}
    for compute in ("float32", "bfloat16"):
        settings = options(tmp_path / compute, compute=compute, learning_rate=1e-4)
        trainer = Trainer(str(bert), pairs(8, marked=False), settings)
        trainer.train()
        curves[compute] = losses_of(trainer)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(trainer.params))
    assert curves["float32"] != curves["bfloat16"]
    np.testing.assert_allclose(curves["bfloat16"], curves["float32"], rtol=2e-2)


@SLOW
@pytest.mark.parametrize("mesh", [{"data": 4, "model": 2}, {"data": 8, "fsdp": True}])
def test_lora_on_several_devices(bert, tmp_path, mesh):
    """The curve and the adapter of one device."""
    settings = {"lora_rank": 4, "learning_rate": 0.02, "max_steps": 4}
    runs = {}
    for name, more in (("one", {}), ("many", mesh)):
        runs[name] = Trainer(str(bert), pairs(16), options(tmp_path / name, **settings, **more))
        runs[name].train()
        runs[name].save(tmp_path / name / "adapter")
    np.testing.assert_allclose(losses_of(runs["many"]), losses_of(runs["one"]), rtol=1e-5)
    one, many = (
        jaxpool.load(str(bert), lora_path=str(tmp_path / name / "adapter")) for name in runs
    )
    texts = [text for pair in pairs(4) for text in pair]
    np.testing.assert_allclose(many.encode(texts), one.encode(texts), atol=1e-4)


def test_options_of_a_file(tmp_path):
    def refused(text, message):
        file = tmp_path / "run.yaml"
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_options(file)

    given = "base: x\ntrain_files: [y]\noutput: z\n"
    refused("- a", "wanted a mapping")
    refused("base: x", "wanted \\['output', 'train_files'\\]")
    refused(given + "batch_size: 0", "batch_size must be at least 1, got 0")
    refused(given + "compute: float8", "compute must be float32 or bfloat16")
    (tmp_path / "run.yaml").write_text(given + "report_to: [tensorboard]\n")
    base, files, evaluation, found = read_options(tmp_path / "run.yaml")
    assert (base, files, evaluation, found.report_to) == ("x", ["y"], None, ("tensorboard",))
