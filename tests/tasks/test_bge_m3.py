"""BGE-M3: dense, sparse and multi-vector from one forward, against the documented math in torch."""

import shutil

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import jaxpool
from converters.report import CheckpointError
from jaxpool import PoolingParams
from tests.tasks.bge_m3 import TEXTS, Reference, save_bge_m3

TASKS = ("embed", "sparse", "token_embed")
WEIGHTS = (0.4, 0.2, 0.4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_bge_m3(tmp_path_factory.mktemp("bge-m3") / "model")


@pytest.fixture(scope="module")
def llm(folder):
    return jaxpool.LLM(str(folder))


@pytest.fixture(scope="module")
def reference(folder):
    return Reference(folder)


def encode(llm, task, texts=TEXTS, **options):
    outputs = llm.encode(texts, pooling_task=task, use_tqdm=False, **options)
    return [output.outputs.data for output in outputs]


def assert_close(ours: dict, wanted: tuple) -> None:
    """The three kinds of vectors of a text."""
    dense, words, vectors = wanted
    np.testing.assert_allclose(ours["embed"], dense, rtol=0, atol=1e-5)
    assert ours["token_embed"].shape == vectors.shape
    np.testing.assert_allclose(ours["token_embed"], vectors, rtol=0, atol=1e-5)
    assert set(np.flatnonzero(ours["sparse"]).tolist()) == set(words)
    np.testing.assert_allclose([ours["sparse"][i] for i in words], list(words.values()), atol=1e-5)


def test_three_kinds_of_vectors_from_one_forward(llm, reference):
    assert llm.supported_tasks == ("embed", "token_embed", "sparse", "token_classify")
    assert llm.pooling_task == "embed"
    before = llm.model.engine.computed_tokens
    found = encode(llm, TASKS)
    alone = llm.model.engine.computed_tokens - before
    assert sum(len(words) for _, words, _ in map(reference, TEXTS)) > 10
    for text, ours in zip(TEXTS, found, strict=True):
        assert tuple(ours) == TASKS
        assert_close(ours, reference(text))
    for task in TASKS:
        encode(llm, task)
    assert llm.model.engine.computed_tokens - before == 4 * alone


@pytest.mark.parametrize("tasks", [["sparse"], "sparse&embed", ["token_embed", "token_classify"]])
def test_any_subset(llm, tasks):
    names = tasks.split("&") if isinstance(tasks, str) else tasks
    alone = {name: encode(llm, name) for name in names}
    for i, ours in enumerate(encode(llm, tasks)):
        assert list(ours) == names
        for name in names:
            np.testing.assert_allclose(ours[name], alone[name][i], rtol=0, atol=1e-6)


def test_weights_of_tokens(llm, reference):
    """vLLM's token_classify: a weight a token without the special ones at both ends."""
    inputs = reference.tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        hidden = reference.model(**inputs).last_hidden_state[0, 1:-1]
    raw = (hidden @ reference.sparse["weight"].T + reference.sparse["bias"])[:, 0]
    (ours,) = encode(llm, "token_classify", TEXTS[0])
    assert ours.shape == raw.shape
    np.testing.assert_allclose(ours, torch.relu(raw), atol=1e-5)
    (ours,) = encode(
        llm, "token_classify", TEXTS[0], pooling_params=PoolingParams(use_activation=False)
    )
    np.testing.assert_allclose(ours, raw, atol=1e-5)


def test_sparse_weights_name_their_tokens(llm, reference):
    (vector,) = encode(llm, "sparse", TEXTS[0])
    weights = jaxpool.sparse_weights(vector, llm.get_tokenizer())
    assert {w.id: w.weight for w in weights} == pytest.approx(reference(TEXTS[0])[1], abs=1e-5)
    assert [w.token for w in weights] == reference.tokenizer.convert_ids_to_tokens(
        [w.id for w in weights]
    )


def test_scores_and_their_weighted_means(llm, reference):
    pairs = [(TEXTS[0], TEXTS[1]), (TEXTS[0], TEXTS[3]), (TEXTS[2], TEXTS[1])]
    wanted = [reference.score(*pair, WEIGHTS) for pair in pairs]
    ours = llm.compute_score(pairs, weights=WEIGHTS, use_tqdm=False)
    assert set(ours) == set(wanted[0])
    for name, scores in ours.items():
        np.testing.assert_allclose(scores, [one[name] for one in wanted], rtol=0, atol=1e-4)
    assert llm.compute_score(pairs[0], use_tqdm=False) == pytest.approx(
        reference.score(*pairs[0], (1, 1, 1)), abs=1e-4
    )
    params = PoolingParams(extra_kwargs={"weights": WEIGHTS})
    outputs = llm.score(TEXTS[0], [TEXTS[1], TEXTS[3]], pooling_params=params, use_tqdm=False)
    scores = [output.outputs.score for output in outputs]
    np.testing.assert_allclose(scores, ours["colbert+sparse+dense"][:2], atol=1e-5)
    (plain,) = llm.score(TEXTS[0], TEXTS[1], use_tqdm=False)
    assert plain.outputs.score == pytest.approx(wanted[0]["dense"], abs=1e-4)


def test_round_trip(folder, llm, tmp_path):
    """HF folder -> ours -> HF folder: equal tensors, and FlagEmbedding's files among them."""
    exported = llm.model.export(tmp_path / "exported")
    before, after = (load_file(path / "model.safetensors") for path in (folder, exported))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(tensor, after[name])
    for name in ("sparse_linear.pt", "colbert_linear.pt"):
        head = torch.load(folder / name)
        again = torch.load(exported / name, weights_only=True)
        assert list(head) == list(again)
        assert all(torch.equal(head[key], again[key]) for key in head)
    assert_close(encode(jaxpool.LLM(str(exported)), TASKS)[1], Reference(exported)(TEXTS[1]))


def test_orbax_keeps_the_heads(llm, tmp_path):
    from converters.files import orbax

    orbax.save(llm.model.checkpoint, tmp_path)
    again = jaxpool.LLM(str(tmp_path))
    assert again.supported_tasks == llm.supported_tasks
    jax.tree.map(np.testing.assert_array_equal, again.model.params, llm.model.params)


def test_vllm_names_the_architecture(folder, llm, tmp_path):
    overrides = {"architectures": ["BgeM3EmbeddingModel"]}
    named = jaxpool.LLM(str(folder), hf_overrides=overrides)
    assert named.supported_tasks == llm.supported_tasks
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "colbert_linear.pt").unlink()
    assert "sparse" in jaxpool.LLM(str(tmp_path)).supported_tasks
    with pytest.raises(CheckpointError, match=r"BgeM3EmbeddingModel: wanted colbert_linear\.pt"):
        jaxpool.LLM(str(tmp_path), hf_overrides=overrides)


@pytest.mark.parametrize(
    "tasks, params, message",
    [
        ("embed&classify", {}, "Classification API is not supported"),
        ("embed&sparse", {"use_activation": False}, "'sparse' only supports"),
        ("embed&sparse", {"dimensions": 8}, "Matryoshka"),
    ],
)
def test_refused_combinations(llm, tasks, params, message):
    with pytest.raises(ValueError, match=message):
        encode(llm, tasks, pooling_params=PoolingParams(**params))


@pytest.mark.parametrize("weights", [(1, 1), (0, 0, 0)])
def test_refused_weights(llm, weights):
    with pytest.raises(ValueError, match="weights must be three numbers"):
        llm.compute_score((TEXTS[0], TEXTS[1]), weights=weights)


def test_weights_need_the_heads(minilm):
    with pytest.raises(ValueError, match="this one has no \\['sparse'\\]"):
        minilm.compute_score(("a", "b"))


@pytest.mark.slow
def test_several_tasks_compiled_ahead(folder, reference):
    name = "embed&sparse&token_embed"
    fixed = jaxpool.LLM(str(folder), max_model_len=16, warmup=(name,), forbid_compiles=True)
    assert_close(encode(fixed, name, "Dogs bark.")[0], reference("Dogs bark."))
    with pytest.raises(RuntimeError, match="no executable"):
        encode(fixed, "embed", "Dogs bark.")
