"""Which tasks a model has, how one is asked for, and what an impossible one answers."""

from types import SimpleNamespace

import numpy as np
import pytest
from transformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
)

from converters.architectures import SUFFIXES, defaults
from jaxpool import LLM, LoRARequest, PoolerConfig, PoolingParams
from jaxpool.loading import max_length
from tests.small import TEXTS, save, vectors


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    return LLM(str(save(folder, BertForSequenceClassification, num_labels=3)))


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    return LLM(str(save(folder, BertForTokenClassification, num_labels=5)))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Qwen3ForCausalLM", ("generate", "none")),
        ("GPT2LMHeadModel", ("generate", "none")),
        ("FooEmbeddingModel", ("pooling", "embed")),
        ("BertForSequenceClassification", ("pooling", "classify")),
        ("BertForTokenClassification", ("pooling", "classify")),
        ("FooRewardModel", ("pooling", "embed")),
        ("FooForRewardModeling", ("pooling", "embed")),
        ("BertModel", ("pooling", "embed")),
    ],
)
def test_suffixes(name, wanted):
    assert defaults(name) == wanted
    assert len({row[0] for row in SUFFIXES}) == len(SUFFIXES)


def test_tasks_of_each_kind(bert_llm, classifier, tagger):
    assert bert_llm.supported_tasks == ("embed", "token_embed")
    assert classifier.supported_tasks == ("classify", "token_classify")
    assert tagger.supported_tasks == ("token_classify",)
    defaults = [llm.pooling_task for llm in (bert_llm, classifier, tagger)]
    assert defaults == ["embed", "classify", "token_classify"]


def test_older_names(classifier, bert_llm):
    new = classifier.encode(TEXTS, pooling_task="classify", use_tqdm=False)
    for old in (
        classifier.encode(TEXTS, pooling_task="score", use_tqdm=False),
        classifier.reward(TEXTS, use_tqdm=False),
    ):
        for a, b in zip(new, old, strict=True):
            np.testing.assert_array_equal(a.outputs.data, b.outputs.data)
    tokens = bert_llm.encode(TEXTS[:1], pooling_task="encode", use_tqdm=False)
    assert tokens[0].outputs.data.shape == (4, 32)


def test_attributes(bert_llm, classifier):
    config = bert_llm.model_config
    assert (config.embedding_size, config.max_model_len, config.dtype) == (32, 64, "float32")
    assert config.head_dtype == "float32" and config.attn_type == "encoder_only"
    assert config.architectures == ["BertModel"]
    assert config.pooler_config.seq_pooling_type == "CLS" and not config.is_matryoshka
    assert bert_llm.get_tokenizer()("Hello world")["input_ids"][0] == 101


def test_outputs_print_as_documented(bert_llm, classifier):
    (embedding,) = bert_llm.embed("Hello world", use_tqdm=False)
    assert repr(embedding) == (
        "EmbeddingRequestOutput(request_id='0', outputs=EmbeddingOutput(hidden_size=32), "
        "prompt_token_ids=[101, 7592, 2088, 102], num_cached_tokens=0, finished=True)"
    )
    (classes,) = classifier.classify("Hello world", use_tqdm=False)
    assert repr(classes.outputs) == "ClassificationOutput(num_classes=3)"
    assert classes.late_chunking is None and classes.error is None


def test_converted_to_an_embedder(classifier, tmp_path):
    folder = str(classifier.model.checkpoint.folder)
    llm = LLM(folder, convert="embed")
    assert llm.supported_tasks == ("embed", "token_embed")
    assert vectors(llm).shape == (len(TEXTS), 32)


def test_every_task_unless_one_is_fixed(bert_llm):
    assert bert_llm.encode("a", pooling_task="token_embed", use_tqdm=False)
    fixed = LLM(str(bert_llm.model.checkpoint.folder), pooler_config=PoolerConfig(task="embed"))
    with pytest.raises(ValueError, match=r'pooling_task via `PoolerConfig\(task="token_embed"\)`'):
        fixed.encode("a", pooling_task="token_embed")


def test_embed_on_a_model_of_token_vectors(bert_llm):
    llm = LLM(str(bert_llm.model.checkpoint.folder), pooler_config={"task": "token_embed"})
    (output,) = llm.embed("Hello world", use_tqdm=False)
    assert type(output).__name__ == "PoolingRequestOutput" and output.outputs.data.shape == (4, 32)


LOADING = {
    "runner": (
        {"runner": "generate"},
        "do not support `--runner generate`. Use `--runner pooling`",
    ),
    "draft": ({"runner": "draft"}, "do not support `--runner draft`"),
    "unknown runner": ({"runner": "fast"}, "unknown runner 'fast'"),
    "unknown convert": ({"convert": "score"}, "unknown convert 'score'"),
    "native only": (
        {"convert": "none", "hf_overrides": {"architectures": ["BertForCausalLM"]}},
        "This model does not support `--runner pooling`. You can pass `--convert <embed|classify>",
    ),
    "no such head": (
        {"hf_overrides": {"architectures": ["BertForAudioClassification"]}},
        "no such head is known",
    ),
    "length": ({"max_model_len": 65}, r"max_model_len \(65\) is greater than the derived"),
}


@pytest.mark.parametrize("case", LOADING)
def test_loading_refuses(case, bert):
    options, message = LOADING[case]
    with pytest.raises(ValueError, match=message):
        LLM(str(bert), **options)


def test_the_derived_length(monkeypatch):
    def files(positions, sentence_length=None):
        arch = SimpleNamespace(max_length=512, positions=positions)
        return SimpleNamespace(arch=arch, pipeline=SimpleNamespace(max_length=sentence_length))

    tokenizer = SimpleNamespace(max_length=10**9)
    assert max_length(files(512), tokenizer, None) == 512
    assert max_length(files(512, 128), tokenizer, None) == 128
    assert max_length(files(512, 1024), tokenizer, None) == 512
    assert max_length(files(0, 1024), tokenizer, None) == 1024
    with pytest.raises(ValueError, match="greater than the derived .* set the env var JAXPOOL_ALL"):
        max_length(files(0), tokenizer, 600)
    with pytest.raises(ValueError, match="max_model_len must be at least 1, got 0"):
        max_length(files(0), tokenizer, 0)
    monkeypatch.setenv("JAXPOOL_ALLOW_LONG_MAX_MODEL_LEN", "1")
    assert max_length(files(0), tokenizer, 600) == 600
    with pytest.raises(ValueError, match="greater than the derived"):
        max_length(files(512), tokenizer, 600)


def test_unsupported_task_of_a_config(bert):
    with pytest.raises(RuntimeError, match="Unsupported task: 'classify' Supported tasks: "):
        LLM(str(bert), pooler_config={"task": "classify"})


def test_unknown_option(bert):
    with pytest.raises(TypeError, match="LLM has no option enforce_lazy"):
        LLM(str(bert), enforce_lazy=True, enforce_eager=True)


CALLS = {
    "no task": (lambda llm: llm.encode("a"), "pooling_task required for `LLM.encode`"),
    "classify": (
        lambda llm: llm.classify("a"),
        "Classification API is not supported by this model. Try converting the model using "
        "`--convert classify`.",
    ),
    "token_classify": (
        lambda llm: llm.encode("a", pooling_task="token_classify"),
        "Classification API is not supported",
    ),
    "unknown task": (
        lambda llm: llm.encode("a", pooling_task="dance"),
        r"Unsupported task: 'dance' Supported tasks: \(",
    ),
    "plugin": (lambda llm: llm.encode("a", pooling_task="plugin"), "No IOProcessor plugin"),
    "generate": (
        lambda llm: llm.generate("a"),
        r"LLM.generate\(\) is only supported for generative models. Try passing",
    ),
    "chat": (lambda llm: llm.chat([]), r"LLM.chat\(\) is only supported for generative models"),
    "lora": (
        lambda llm: llm.embed("a", lora_request=LoRARequest("a", 1, "/adapter")),
        "lora_request needs enable_lora=True when the model is loaded",
    ),
    "no prompts": (lambda llm: llm.embed([]), "You must pass at least one prompt"),
    "empty ids": (lambda llm: llm.embed([[]]), "The decoder prompt cannot be empty"),
    "bad id": (lambda llm: llm.embed([[99999999]]), "Token id 99999999 is out of vocabulary"),
    "negative id": (lambda llm: llm.embed([[-1]]), "Token id -1 is out of vocabulary"),
    "ids too long": (
        lambda llm: llm.embed([[5] * 70]),
        "maximum context length is 64 tokens. However, your prompt contains 70 input tokens",
    ),
    "text too long": (
        lambda llm: llm.embed("word " * 100),
        "your prompt contains at least 65 input tokens, which exceeds this limit even without "
        "any output tokens. Please reduce the length of the input prompt.",
    ),
    "truncated to nothing": (
        lambda llm: llm.embed("a", tokenization_kwargs={"truncate_prompt_tokens": 0}),
        "The decoder prompt cannot be empty",
    ),
    "lengths": (
        lambda llm: llm.embed(["a"] * 3, pooling_params=[PoolingParams()] * 2),
        r"The lengths of prompts \(3\) and params \(2\) must be the same.",
    ),
    "other task": (
        lambda llm: llm.embed("a", pooling_params=PoolingParams(task="token_embed")),
        "You cannot overwrite param.task='token_embed' with pooling_task='embed'!",
    ),
    "not matryoshka": (
        lambda llm: llm.embed("a", pooling_params=PoolingParams(dimensions=16)),
        "does not support Matryoshka embeddings; dimensions must be unset",
    ),
    "chunks of a pooled task": (
        lambda llm: llm.embed(
            "a", pooling_params=PoolingParams(late_chunking_params={"chunk_size": 2})
        ),
        r"Task 'embed' only supports \['dimensions', 'use_activation'\] parameters, "
        r"does not support \['late_chunking_params'\] parameters",
    ),
    "step": (
        lambda llm: llm.encode("a", PoolingParams(step_tag_id=3), pooling_task="token_embed"),
        r"does not support \['step_tag_id'\] parameters",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_calls_refused(case, bert_llm):
    call, message = CALLS[case]
    before = bert_llm.model.engine.computed_tokens
    with pytest.raises(ValueError, match=message):
        call(bert_llm)
    assert bert_llm.model.engine.computed_tokens == before


def test_arguments_by_position_or_name(bert_llm):
    with pytest.raises(TypeError, match="positional"):
        LLM(str(bert_llm.model.checkpoint.folder), "pooling")
    with pytest.raises(TypeError, match="positional-only"):
        bert_llm.score(data_1="a", data_2="b")


def test_scoring_api_on_a_tagger(tagger):
    with pytest.raises(ValueError, match="This model does not support the Scoring API."):
        tagger.score("a", "b")


def test_embedding_api_on_a_classifier(classifier):
    with pytest.raises(ValueError, match="Embedding API is not supported by this model. Try conv"):
        classifier.embed("a")
    with pytest.raises(ValueError, match="'classify' only supports .* does not support .'dimensi"):
        classifier.classify("a", pooling_params=PoolingParams(dimensions=2))


def test_params_of_the_caller_are_not_changed(bert_llm):
    params = PoolingParams()
    bert_llm.embed(TEXTS[:1], pooling_params=params, use_tqdm=False)
    assert params == PoolingParams()


def test_params_for_each_prompt(bert_llm):
    raw, unit = PoolingParams(use_activation=False), PoolingParams(use_activation=True)
    outputs = vectors(bert_llm, TEXTS[:2], pooling_params=[raw, unit])
    norms = np.linalg.norm(outputs, axis=1)
    assert abs(norms[0] - 1) > 0.1 and norms[1] == pytest.approx(1, abs=1e-5)


def test_progress_bar_of_the_caller(bert_llm):
    calls = []

    class Bar:
        def __init__(self, **options):
            calls.append(options)

        def update(self):
            calls.append("update")

        def close(self):
            calls.append("close")

    bert_llm.embed(TEXTS[:2], use_tqdm=Bar)
    assert calls[0]["total"] == 2 and calls[0]["desc"] == "Processed prompts"
    assert calls[1:] == ["update", "update", "close"]
