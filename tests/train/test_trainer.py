"""A run beside the same run in torch, on a mesh, interrupted, exported; and what it refuses."""

import gc
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import jaxpool
from jaxpool.train.checkpoints import Checkpoints
from jaxpool.train.options import TrainingOptions
from jaxpool.train.trainer import Trainer
from tests.conftest import MINILM
from tests.small import save

WORDS = "the a cat dog house tree runs sees eats big small red blue fast slow and of in to".split()


def pairs(count: int, seed: int = 0, marked: bool = True) -> list[tuple[str, str]]:
    """Pairs of sentences of 3 to 30 words; a number that both have makes them easy to match."""
    random = np.random.default_rng(seed)
    made = lambda i: " ".join([*random.choice(WORDS, random.integers(3, 30)), str(i) * marked])  # noqa: E731
    return [(made(i), made(i)) for i in range(count)]


def options(folder: Path, **changes) -> TrainingOptions:
    given = {"batch_size": 8, "max_steps": 6, "learning_rate": 1e-3, "dropout": (0.0, 0.0)}
    return TrainingOptions(str(folder), **(given | changes))


def torch_run(folder: Path, trainer: Trainer, steps: int):
    """The same batches through sentence-transformers: AdamW, warm-up, clipping, no dropout."""
    model = SentenceTransformer(str(folder), device="cpu").eval()
    model.max_seq_length = trainer.model.max_length
    loss = MultipleNegativesRankingLoss(model)
    given = trainer.options
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, given.learning_rate, weight_decay=0.0)
    warmup = int(np.ceil(steps * given.warmup_ratio))
    ramp = lambda k: k / warmup if k < warmup else (steps - k) / max(steps - warmup, 1)  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, ramp)
    losses = []
    for _, (which, indices) in zip(range(steps), trainer.batches.from_step(0), strict=False):
        texts = [trainer.data[which].texts[i] for i in indices]
        features = [model.preprocess(list(column)) for column in zip(*texts, strict=True)]
        value = loss(features, None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, given.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(value.item())
    return model, losses


def losses_of(trainer: Trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.history if "loss" in entry]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random encoder whose heads four devices divide."""
    return save(tmp_path_factory.mktemp("bert"), num_attention_heads=4)


@pytest.fixture(scope="module")
def run(bert, tmp_path_factory):
    """A short run of the small model on one device, with a checkpoint on the way."""
    folder = tmp_path_factory.mktemp("run")
    trainer = Trainer(str(bert), pairs(40), options(folder, save_steps=3))
    trainer.train()
    return trainer


def test_run_is_torch_s(run, bert):
    _, wanted = torch_run(_sentence_transformer(bert, run), run, 6)
    np.testing.assert_allclose(losses_of(run), wanted, rtol=1e-4)
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def _sentence_transformer(bert: Path, run: Trainer) -> Path:
    """The small model before the run, with the modules that `save` adds."""
    folder = Path(run.options.output) / "start"
    Trainer(str(bert), pairs(8), options(folder)).save(folder)
    return folder


def test_saved_folder_gives_the_same_vectors_everywhere(run, tmp_path):
    run.save(tmp_path)
    texts = [text for pair in pairs(5, seed=9) for text in pair]
    ours = jaxpool.load(str(tmp_path)).encode(texts)
    theirs = SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    before = jaxpool.load(run.model.name).encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert np.abs(ours - before).max() > 1e-2
    card = (tmp_path / "README.md").read_text()
    assert "| loss |" in card and "| examples | 40 |" in card


def test_an_interrupted_run_goes_on_bit_for_bit(run, bert):
    again = Trainer(str(bert), pairs(40), run.options)
    folder = Path(run.options.output) / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["3", "6"]
    (folder / "6").rename(folder.parent / "gone")
    again.train()
    assert again.history == run.history and len(losses_of(again)) == 6
    lines = (folder.parent / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == run.history
    jax.tree.map(np.testing.assert_array_equal, again.params, run.params)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "shape", [(2, 4), pytest.param((4, 2), marks=SLOW), pytest.param((8, 1), marks=SLOW)]
)
def test_meshes_give_the_curve_of_one_device(run, bert, tmp_path, shape):
    data, model = shape
    mesh = {"data": data, "model": model, "fsdp": True}
    trainer = Trainer(str(bert), pairs(40), options(tmp_path, **mesh))
    trainer.train()
    np.testing.assert_allclose(losses_of(trainer), losses_of(run), rtol=1e-5)


@SLOW
@pytest.mark.parametrize("size", [3, 7])
def test_batches_that_the_data_axis_does_not_divide(bert, tmp_path, size):
    """Rows are divided, and not examples: such a batch has rows of padding, and the same curve."""
    curves = []
    for data in (1, 4):
        changes = {"data": data, "batch_size": size, "max_steps": 2}
        trainer = Trainer(str(bert), pairs(20), options(tmp_path / str(data), **changes))
        trainer.train()
        curves.append(losses_of(trainer))
    np.testing.assert_allclose(*curves, rtol=1e-5)


def test_a_run_begins_anew_where_that_is_asked(bert, tmp_path):
    curves = []
    for count in (2, 1):
        trainer = Trainer(str(bert), pairs(8), options(tmp_path, max_steps=count, save_steps=1))
        trainer.train(resume=False)
        curves.append(losses_of(trainer))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == len(trainer.history)
    assert len(curves[0]) == 2 and curves[1] == curves[0][:1]


def test_parameters_are_there_once(bert, tmp_path):
    """Beside them the two moments of AdamW, and nothing of the loaded model."""
    gc.collect()
    here = {id(array) for array in jax.live_arrays()}
    trainer = Trainer(str(bert), pairs(8), options(tmp_path))
    next(iter(trainer._losses(trainer.data[0])))
    gc.collect()
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(trainer.params))
    new = sum(array.nbytes for array in jax.live_arrays() if id(array) not in here)
    assert own * 3 <= new < own * 3.1


@SLOW
def test_gradcache_and_accumulation(run, bert, tmp_path):
    cached = Trainer(str(bert), pairs(40), options(tmp_path / "a", chunk=1, max_steps=2))
    cached.train()
    np.testing.assert_allclose(losses_of(cached), losses_of(run)[:2], rtol=1e-5)
    slow = options(tmp_path / "b", gradient_accumulation_steps=2, max_steps=2)
    slower = Trainer(str(bert), pairs(40), slow)
    slower.train()
    assert len(slower.history) == 4


def test_bad_input(bert, tmp_path):
    def refused(message, rows, **changes):
        with pytest.raises(ValueError, match=message):
            Trainer(str(bert), rows, options(tmp_path, **changes))

    refused("at least one example", [])
    refused("wanted 2 to any number columns", [("a",), ("b",)])
    refused("wanted a label beside", pairs(4), loss="cosent")
    refused("wanted no label", [("a", "b", 1.0), ("c", "d", 0.0)])
    refused("all labels are 1", [("a", "b", 1), ("c", "d", 1)], loss="contrastive")
    refused("column 'text' wanted a text, found int", [{"text": 1, "other": "b"}])
    refused("unknown loss 'x'", pairs(4), loss="x")
    refused("nothing to train", pairs(4), train=("nothing",))
    refused("needs 16 devices, found 8", pairs(4), data=16)
    refused("model=3 wanted to divide N of layers.* N=4 x", pairs(4), model=3)
    refused("fsdp over data=5 wanted to divide an axis of embed", pairs(4), data=5, fsdp=True)
    refused("chunk: wanted a multiple of data=2, found 3", pairs(4), data=2, chunk=3)
    with pytest.raises(ValueError, match="unknown settings"):
        from jaxpool.train.options import read_options

        file = tmp_path / "run.yaml"
        file.write_text("base: x\ntrain_files: y\noutput: z\nlearning: 1\n")
        read_options(file)


def test_another_run_in_the_folder(run, bert):
    other = Trainer(str(bert), pairs(24), run.options)
    with pytest.raises(ValueError, match="holds another run: data wanted"):
        other.train()
    of_another_model = Checkpoints(
        Path(run.options.output) / "checkpoints", 2, run._facts() | {"model": "another"}
    )
    with pytest.raises(ValueError, match='model wanted "another", found'):
        of_another_model.restore(run.state)


def test_a_loss_that_is_not_finite(bert, tmp_path):
    trainer = Trainer(str(bert), pairs(40), options(tmp_path, learning_rate=1e30, max_steps=9))
    with pytest.raises(ArithmeticError, match="in the batch of examples") as stopped:
        trainer.train()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trainer.params))
    done = len(losses_of(trainer))
    assert int(trainer.state.step) == done
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(done)]
    _, indices = next(trainer.batches.from_step(done))
    assert f"step {done + 1}: " in str(stopped.value) and str(indices.tolist()) in str(
        stopped.value
    )


def test_command(bert, tmp_path):
    from typer.testing import CliRunner

    from jaxpool.cli import app

    data = tmp_path / "pairs.jsonl"
    rows = [{"anchor": a, "positive": b} for a, b in pairs(16)]
    data.write_text("\n".join(map(json.dumps, rows)))
    settings = f"base: {bert}\ntrain_files: {data}\noutput: {tmp_path / 'out'}\n"
    (tmp_path / "run.yaml").write_text(settings + "batch_size: 8\nmax_steps: 2\n")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "run.yaml")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "model" / "modules.json").is_file()


@SLOW
def test_fifty_steps_of_minilm(tmp_path):
    """Parameters after 50 steps of AdamW, warm-up and clipping, beside torch's."""
    hard = pairs(400, marked=False)  # a loss near zero would have few digits to compare
    settings = options(tmp_path, batch_size=8, max_steps=50, learning_rate=2e-5)
    trainer = Trainer(MINILM, hard, settings)
    trainer.train()
    folder = Path(trainer.model.checkpoint.folder)
    model, losses = torch_run(folder, trainer, 50)
    np.testing.assert_allclose(losses_of(trainer), losses, rtol=1e-4)
    trainer.save(tmp_path / "ours")
    ours = SentenceTransformer(str(tmp_path / "ours"), device="cpu").state_dict()
    apart = {}
    for name, theirs in model.state_dict().items():
        if ".key.bias" not in name and theirs.is_floating_point() and torch.any(theirs != 0):
            difference = torch.linalg.norm(ours[name] - theirs)
            apart[name] = float(difference / torch.linalg.norm(theirs))
    print(f"of {len(apart)} tensors the furthest: {max(apart.values()):.1e}")
    assert max(apart.values()) <= 1e-4
    check_key_biases(model, {name: x for name, x in ours.items() if ".key.bias" in name})


def check_key_biases(model: SentenceTransformer, biases: dict) -> None:
    """Two runs may differ in the biases of keys, and be the same function.

    A bias b of all keys adds q.b to every score of a query q, which its softmax does not see: the
    gradient of b is zero but for rounding, of which Adam makes whole steps. So `biases`, and even
    far ones, in the place of the model's own must give its vectors, where those of queries do not.
    """
    texts, own = [text for pair in pairs(8) for text in pair], model.state_dict()
    wanted = model.encode(texts)
    queries = {name.replace(".key.", ".query."): x for name, x in biases.items()}
    for changed, same in (
        (biases, True),
        ({name: x + torch.randn_like(x) for name, x in biases.items()}, True),
        ({name: own[name] + torch.randn_like(x) for name, x in queries.items()}, False),
    ):
        model.load_state_dict(own | changed)
        apart = np.abs(model.encode(texts) - wanted).max()
        assert apart <= 1e-5 if same else apart > 1e-3
        model.load_state_dict(own)
