"""Every sentence-transformers module and prompt against `SentenceTransformer.encode`."""

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import (
    Dropout,
    LayerNorm,
    Pooling,
    WordWeights,
)
from transformers import BertForSequenceClassification

import jaxpool
from converters.report import CheckpointError
from jaxpool import LLM, PoolingParams
from tests.small import DIM, TEXTS, randomize, save, vectors

TANH, IDENTITY = torch.nn.Tanh(), torch.nn.Identity()
MODES = Pooling.POOLING_MODES


def build(bert, folder, modules, **options):
    """The reference of a pipeline, and its folder loaded by jaxpool."""
    for module in modules:
        if not isinstance(module, WordWeights):
            randomize(module)
    model = SentenceTransformer(modules=[Transformer(str(bert)), *modules], device="cpu", **options)
    model.save(str(folder))
    return SentenceTransformer(str(folder), device="cpu"), LLM(str(folder))


def words(bert):
    vocab = list(Transformer(str(bert)).tokenizer.get_vocab())
    return WordWeights(vocab, {"cats": 3.0, "hello": 0.5, "the": 0.1}, unknown_word_weight=1.5)


PIPELINES = {
    **{mode: lambda bert, mode=mode: [Pooling(DIM, mode)] for mode in MODES},
    "all modes": lambda bert: [Pooling(DIM, MODES[::-1]), Normalize()],
    "dense": lambda bert: [Pooling(DIM), Dense(DIM, 24, activation_function=TANH), Normalize()],
    "two dense": lambda bert: [
        Pooling(DIM, "cls"),
        Dense(DIM, 48, bias=False, activation_function=IDENTITY),
        Dense(48, 24, activation_function=torch.nn.GELU()),
    ],
    "residual": lambda bert: [
        Pooling(DIM),
        Dense(DIM, DIM, use_residual=True),
        Dense(DIM, 24, use_residual=True),
    ],
    "norms": lambda bert: [Pooling(DIM), Normalize(), Dropout(), LayerNorm(DIM), Normalize()],
    "word weights": lambda bert: [
        words(bert),
        Pooling(DIM, ("mean", "mean_sqrt_len_tokens", "weightedmean", "max")),
    ],
    "token dense": lambda bert: [Dense(DIM, 24, module_input_name="token_embeddings"), Pooling(24)],
}


@pytest.mark.parametrize("name", PIPELINES)
def test_modules(name, bert, tmp_path):
    model, llm = build(bert, tmp_path, PIPELINES[name](bert))
    np.testing.assert_allclose(vectors(llm), model.encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling_mode": None},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode_cls_token": True},
        {"pooling_mode": ["max", "mean"], "pooling_mode_cls_token": True},
    ],
    ids=str,
)
def test_pooling_modes_that_a_file_leaves_open(settings, bert, tmp_path):
    _, llm = build(bert, tmp_path, [Pooling(DIM)])
    (tmp_path / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": DIM, "include_prompt": None} | settings)
    )
    if settings != {"pooling_mode": None}:  # which sentence-transformers fails on
        llm = SentenceTransformer(str(tmp_path), device="cpu")
    wanted = vectors(llm) if isinstance(llm, LLM) else llm.encode(TEXTS)
    np.testing.assert_allclose(vectors(LLM(str(tmp_path))), wanted, atol=1e-5)


def test_a_saved_truncate_dim_is_what_the_model_gives(bert, tmp_path):
    model, llm = build(bert, tmp_path, [Pooling(DIM)], truncate_dim=12)
    assert model.encode(TEXTS).shape[1] == 12
    np.testing.assert_allclose(vectors(llm), model.encode(TEXTS), atol=1e-5)
    np.testing.assert_allclose(llm.model.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
    ours = vectors(llm, pooling_params=PoolingParams(dimensions=20))
    np.testing.assert_allclose(ours, model.encode(TEXTS, truncate_dim=20), atol=1e-5)
    assert llm.model.resolution.origins["dimensions"] == "sentence-transformers files"


@pytest.fixture(scope="module")
def routed(bert, tmp_path_factory):
    """Queries and documents through Dense layers of their own, then a shared one."""
    routes = {name: [Dense(DIM, DIM), LayerNorm(DIM)] for name in ("query", "document")}
    modules = [Pooling(DIM), Router(routes), Dense(DIM, 24), Normalize()]
    return build(bert, tmp_path_factory.mktemp("routed"), modules)


@pytest.mark.parametrize("route", ["query", "document"])
def test_router(route, routed):
    model, llm = routed
    ours = vectors(llm, input_type=route)
    np.testing.assert_allclose(ours, model.encode(TEXTS, task=route), atol=1e-5)


def test_router_defaults_to_its_first_route(routed):
    np.testing.assert_array_equal(vectors(routed[1]), vectors(routed[1], input_type="query"))


def test_router_refuses_other_routes(routed):
    with pytest.raises(ValueError, match="input_type must be one of .*got 'clustering'"):
        vectors(routed[1], input_type="clustering")
    passages = vectors(routed[1], input_type="passage")
    np.testing.assert_array_equal(passages, vectors(routed[1], input_type="document"))


def test_router_of_old_asym_folders(routed, tmp_path):
    folder = shutil.copytree(routed[1].model.checkpoint.folder, tmp_path / "asym")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.Asym"
    (folder / "modules.json").write_text(json.dumps(modules))
    router = folder / modules[2]["path"]
    config = json.loads((router / "router_config.json").read_text())
    config["parameters"] = {"allow_empty_key": False}
    (router / "router_config.json").rename(router / "config.json")
    (router / "config.json").write_text(json.dumps(config))
    llm = LLM(str(folder))
    with pytest.raises(ValueError, match="input_type must be one of .*got None"):
        vectors(llm)
    query = vectors(llm, input_type="query")
    np.testing.assert_array_equal(query, vectors(routed[1], input_type="query"))


def test_unknown_module_is_refused_by_name(routed, tmp_path):
    folder = shutil.copytree(routed[1].model.checkpoint.folder, tmp_path / "odd")
    text = (folder / "modules.json").read_text()
    kind = "sentence_transformers.sentence_transformer.modules.lstm.LSTM"
    modules = json.loads(text)
    modules[1]["type"] = kind
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=f"unknown module {kind}"):
        LLM(str(folder))


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("Pooling", {"pooling_mode": "median"}, "unknown pooling mode .'median'"),
        ("Dense", {"activation_function": "torch.nn.SELU2"}, "unknown activation SELU2"),
        ("Dense", {"module_input_name": "token_embeddings"}, "Dense of tokens must come before"),
        ("Router", {"types": {"0": "Transformer"}}, "a Router between whole transformers"),
        ("SpladePooling", {"pooling_strategy": "mean"}, "pooling_strategy"),
    ],
)
def test_modules_that_cannot_be_read(kind, config, message, bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "odd")
    modules = [{"path": "1_Pooling", "type": "Pooling"}, {"path": "2_Odd", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, values in (("1_Pooling", {"pooling_mode": "mean"}), ("2_Odd", config)):
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=message):
        LLM(str(folder))


def test_a_module_that_no_task_uses_is_refused(bert, tmp_path):
    _, llm = build(bert, tmp_path, [Dense(DIM, 24), Pooling(24)])
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps(modules[:-1]))  # the Dense stays
    with pytest.raises(ValueError, match="no task of BertModel uses 1_Dense"):
        LLM(str(tmp_path))


def test_a_classifier_with_a_pooling_module_is_one_of_two_models(tmp_path):
    save(tmp_path, BertForSequenceClassification, num_labels=3)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    paths = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": kind} for path, kind in paths.items()]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match='`convert` must say which, "embed" or "classify"'):
        LLM(str(tmp_path))
    assert "classify" in LLM(str(tmp_path), convert="classify").supported_tasks
    assert "embed" in LLM(str(tmp_path), convert="embed").supported_tasks


PROMPTS = {"query": "Represent this sentence for searching: ", "document": "passage: "}


@pytest.fixture(scope="module", params=[True, False], ids=["include", "exclude"])
def prompted(request, bert, tmp_path_factory):
    """A model with named prompts, whose tokens pooling reads or leaves out."""
    pooling = Pooling(DIM, ("mean", "weightedmean", "max", "cls"), include_prompt=request.param)
    return build(bert, tmp_path_factory.mktemp("prompts"), [pooling], prompts=PROMPTS)


def test_prompts(prompted):
    model, llm = prompted
    np.testing.assert_allclose(vectors(llm), model.encode(TEXTS), atol=1e-5)
    for options in ({"prompt_name": "query"}, {"prompt": "find cats: "}):
        wanted = model.encode(TEXTS, **options)
        np.testing.assert_allclose(vectors(llm, **options), wanted, atol=1e-5)
        assert np.abs(wanted - model.encode(TEXTS)).max() > 1e-3


def test_a_text_that_is_cut_within_its_prompt_has_a_vector_of_its_own(prompted):
    """Where the files leave the prompt out, the last token is left, whatever the batch."""
    cut = {"tokenization_kwargs": {"truncate_prompt_tokens": 4}, "prompt_name": "query"}
    alone = vectors(prompted[1], TEXTS[:1], **cut)
    together = vectors(prompted[1], TEXTS, **cut)
    assert np.isfinite(together).all() and np.abs(together).max() < 100
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_prompts_are_put_before_texts_alone(prompted):
    ids = [[101, 7592, 2088, 102]]
    plain = vectors(prompted[1], ids)
    np.testing.assert_array_equal(vectors(prompted[1], ids, prompt_name="query"), plain)


def test_do_lower_case(bert, tmp_path):
    transformer = Transformer(str(bert), processor_kwargs={"do_lower_case": False})
    SentenceTransformer(modules=[transformer, Pooling(DIM)], device="cpu").save(str(tmp_path))
    assert "[UNK]" in LLM(str(tmp_path)).model.tokenizer.fast.encode("HELLO").tokens
    file = tmp_path / "sentence_bert_config.json"
    file.write_text(json.dumps({"max_seq_length": 12, "do_lower_case": True}))
    model, llm = SentenceTransformer(str(tmp_path), device="cpu"), LLM(str(tmp_path))
    assert llm.model.tokenizer.lower_case and llm.model_config.max_model_len == 12
    ours = vectors(llm, tokenization_kwargs={"truncate_prompt_tokens": -1})
    np.testing.assert_allclose(ours, model.encode(TEXTS), atol=1e-5)
    np.testing.assert_array_equal(vectors(llm, ["HELLO"]), vectors(llm, ["hello"]))


def test_token_vectors(bert, bert_llm):
    model = SentenceTransformer(modules=[Transformer(str(bert)), Pooling(DIM)], device="cpu")
    wanted = model.encode(TEXTS, output_value="token_embeddings")
    raw = PoolingParams(use_activation=False)
    outputs = bert_llm.encode(TEXTS, raw, pooling_task="token_embed", use_tqdm=False)
    for output, vectors_of in zip(outputs, wanted, strict=True):
        np.testing.assert_allclose(output.outputs.data, vectors_of.numpy(), atol=2e-5)
    unit = bert_llm.encode(TEXTS, pooling_task="token_embed", use_tqdm=False)
    for output in unit:
        np.testing.assert_allclose(np.linalg.norm(output.outputs.data, axis=1), 1, atol=1e-5)


def test_encode_has_the_defaults_of_sentence_transformers(prompted, tmp_path):
    folder = shutil.copytree(prompted[1].model.checkpoint.folder, tmp_path / "default")
    file = folder / "config_sentence_transformers.json"
    config = json.loads(file.read_text()) | {"default_prompt_name": "document"}
    file.write_text(json.dumps(config))
    model, ours = SentenceTransformer(str(folder), device="cpu"), jaxpool.load(str(folder))
    long = [*TEXTS, "word " * 100]
    np.testing.assert_allclose(ours.encode(long), model.encode(long), atol=1e-5)
    query = ours.encode(long, input_type="query")
    np.testing.assert_allclose(query, model.encode_query(long), atol=1e-5)
    document = ours.encode(long, input_type="document")
    np.testing.assert_allclose(document, model.encode_document(long), atol=1e-5)
    np.testing.assert_allclose(
        ours.encode("a cat", prompt=""), model.encode("a cat", prompt=""), atol=1e-5
    )


def test_unknown_prompt_name(prompted):
    with pytest.raises(ValueError, match="unknown prompt_name 'qeury'.*document.*query"):
        vectors(prompted[1], prompt_name="qeury")


def test_pooler_config_comes_before_the_files(bert, tmp_path):
    model, llm = build(bert, tmp_path, [Pooling(DIM, "mean"), Normalize()])
    origins = llm.model.resolution.origins
    assert origins["seq_pooling_type"] == origins["use_activation"] == "sentence-transformers files"
    assert origins["tok_pooling_type"] == "model class"
    user = LLM(str(tmp_path), pooler_config={"pooling_type": "MAX", "use_activation": False})
    assert user.model.resolution.origins["seq_pooling_type"] == "PoolerConfig"
    model[1].pooling_mode = "max"
    wanted = torch.nn.Sequential(*list(model)[:2])(model.preprocess(TEXTS))
    wanted = wanted["sentence_embedding"].detach().numpy()
    np.testing.assert_allclose(vectors(user), wanted, atol=1e-5)


def test_a_model_without_normalize_is_not_normalized(bert, tmp_path):
    _, llm = build(bert, tmp_path, [Pooling(DIM)])
    assert np.abs(np.linalg.norm(vectors(llm), axis=1) - 1).max() > 0.1
    unit = vectors(llm, pooling_params=PoolingParams(use_activation=True))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
