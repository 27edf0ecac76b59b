"""Adapters that requests choose: peft's numbers, one program for all, and what is refused."""

from functools import partial

import numpy as np
import pytest
from transformers import (
    AutoModelForTokenClassification,
    BertForSequenceClassification,
    BertForTokenClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
    Qwen3Model,
)

import jaxpool
from converters.report import CheckpointError
from jaxpool import LoRARequest
from tests.adapters import CLASSIFIER, adapter, probabilities
from tests.parity import save_random
from tests.small import add_tokenizer, save

TEXTS = ["a cat sat on the mat", "the house is big and red", "trees", "what is a hash table?"]
MODULES = {
    "bert": ["query", "intermediate.dense", "output.dense"],
    "qwen": ["q_proj", "o_proj", "down_proj"],
}
QWEN = Qwen3Config(
    vocab_size=30522,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=48,
)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen")
    return add_tokenizer(save_random(Qwen3Model, QWEN, folder))


# peft warns about a method of transformers that it reads.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("kind", ["bert", pytest.param("qwen", marks=pytest.mark.slow)])
def test_mixed_batch_gives_the_vectors_of_merged_models(kind, request, tmp_path):
    """Each text of a batch has its own adapter, of two ranks, or none; nothing more compiles."""
    base = request.getfixturevalue(kind)
    first = adapter(base, tmp_path / "first", MODULES[kind], 4, 0, lora_alpha=8)
    second = adapter(base, tmp_path / "second", MODULES[kind][:1], 2, 1, use_rslora=True)
    llm = jaxpool.LLM(str(base), enable_lora=True, max_loras=2, max_lora_rank=4)
    plain = llm.embed(TEXTS, use_tqdm=False)
    compiled = llm.model.executor.compilations
    chosen = [first, second, None, first]
    mixed = llm.embed(TEXTS, lora_request=chosen, use_tqdm=False)
    assert llm.model.executor.compilations == compiled
    for i, asked in enumerate(chosen):
        path = asked and asked.lora_path
        wanted = jaxpool.load(str(base), lora_path=path).encode(TEXTS[i])
        np.testing.assert_allclose(mixed[i].outputs.embedding, wanted, atol=2e-5)
        moved = np.abs(np.subtract(mixed[i].outputs.embedding, plain[i].outputs.embedding)).max()
        assert moved > 1e-2 if asked else moved < 1e-6
    third = adapter(base, tmp_path / "third", MODULES[kind], 4, 2)
    with pytest.raises(ValueError, match="no room for the adapter 'third': max_loras=2"):
        llm.embed(TEXTS, lora_request=third, use_tqdm=False)
    llm.loras.remove("second")
    swapped = llm.embed(TEXTS[0], lora_request=third, use_tqdm=False)[0].outputs.embedding
    wanted = jaxpool.load(str(base), lora_path=third.lora_path).encode(TEXTS[0])
    np.testing.assert_allclose(swapped, wanted, atol=2e-5)
    assert llm.loras.names == ("first", "third")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A decoder that sorts texts into three classes."""
    config = Qwen3Config(**QWEN.to_diff_dict() | {"num_labels": 3, "pad_token_id": 0})
    folder = tmp_path_factory.mktemp("classifier")
    return add_tokenizer(save_random(Qwen3ForSequenceClassification, config, folder))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_each_adapter_of_a_classifier_has_its_head(classifier, tmp_path):
    """PEFT saves the head with an adapter of SEQ_CLS; one without it has that of the model."""
    make = partial(adapter, classifier, modules=MODULES["qwen"], kind=CLASSIFIER)
    sorts = make(tmp_path / "first", rank=4, seed=0, task_type="SEQ_CLS")
    bare = make(tmp_path / "second", rank=2, seed=1)
    llm = jaxpool.LLM(str(classifier), enable_lora=True, max_loras=2, max_lora_rank=4)
    wanted = {asked: probabilities(classifier, asked, TEXTS) for asked in (None, sorts, bare)}
    for chosen in ([sorts, bare, None, sorts], [bare, None, sorts, bare]):
        found = llm.classify(TEXTS, lora_request=chosen, use_tqdm=False)
        for i, asked in enumerate(chosen):
            np.testing.assert_allclose(found[i].outputs.probs, wanted[asked][i], atol=2e-5)
    llm.loras.remove("first")
    bare = make(tmp_path / "third", rank=1, seed=2)
    found = llm.classify(TEXTS, lora_request=bare, use_tqdm=False)
    probs = [one.outputs.probs for one in found]
    np.testing.assert_allclose(probs, probabilities(classifier, bare, TEXTS), atol=2e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_heads_of_an_encoder(tmp_path):
    """A pooler that is updated before a classifier that is replaced, and vectors of tokens."""
    base = save(tmp_path / "base", BertForSequenceClassification, num_labels=3)
    modules = ["query", "dense"]
    sorts = adapter(base, tmp_path / "a", modules, 4, 0, CLASSIFIER, task_type="SEQ_CLS")
    llm = jaxpool.LLM(str(base), enable_lora=True, max_lora_rank=4)
    found = llm.classify(TEXTS, lora_request=[sorts, None] * 2, use_tqdm=False)
    for i, asked in enumerate([sorts, None] * 2):
        wanted = probabilities(base, asked, TEXTS)[i]
        np.testing.assert_allclose(found[i].outputs.probs, wanted, atol=2e-5)
    base = save(tmp_path / "tags", BertForTokenClassification, num_labels=5)
    kind = AutoModelForTokenClassification
    tags = adapter(base, tmp_path / "b", modules, 4, 1, kind, task_type="TOKEN_CLS")
    llm = jaxpool.LLM(str(base), enable_lora=True, max_lora_rank=4)
    call = {"pooling_task": "token_classify", "use_tqdm": False}
    mixed = llm.encode(TEXTS, lora_request=[None, tags] * 2, **call)
    merged = jaxpool.LLM(str(base), lora_path=tags.lora_path).encode(TEXTS, **call)
    for i in (1, 3):
        np.testing.assert_allclose(mixed[i].outputs.data, merged[i].outputs.data, atol=2e-5)
    plain = llm.encode(TEXTS, **call)
    np.testing.assert_allclose(mixed[2].outputs.data, plain[2].outputs.data, atol=1e-6)
    assert np.abs(plain[1].outputs.data - merged[1].outputs.data).max() > 1e-3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_scores_of_a_classifier(tmp_path):
    base = save(tmp_path / "base", BertForSequenceClassification, num_labels=1)
    asked = adapter(base, tmp_path / "adapter", MODULES["bert"], 4, 0)
    llm = jaxpool.LLM(str(base), enable_lora=True)
    got = llm.score(TEXTS[0], TEXTS[1:], lora_request=asked, use_tqdm=False)
    merged = jaxpool.LLM(str(base), lora_path=asked.lora_path)
    wanted = merged.score(TEXTS[0], TEXTS[1:], use_tqdm=False)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one.outputs.score, other.outputs.score, atol=2e-5)
    plain = llm.score(TEXTS[0], TEXTS[1:], use_tqdm=False)
    assert abs(plain[0].outputs.score - got[0].outputs.score) > 1e-3


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_what_is_refused(bert, bert_llm, tmp_path):
    asked = adapter(bert, tmp_path / "wide", ["query"], 8, 0)
    with pytest.raises(ValueError, match="lora_request needs enable_lora=True"):
        bert_llm.embed(TEXTS, lora_request=asked, use_tqdm=False)
    llm = jaxpool.LLM(str(bert), enable_lora=True, max_lora_rank=4)
    with pytest.raises(CheckpointError, match="has rank 8, above max_lora_rank=4"):
        llm.embed(TEXTS, lora_request=asked, use_tqdm=False)
    embeddings = adapter(bert, tmp_path / "words", ["word_embeddings"], 2, 0)
    with pytest.raises(CheckpointError, match="is no plain kernel of a layer"):
        llm.embed(TEXTS, lora_request=embeddings, use_tqdm=False)
    with pytest.raises(FileNotFoundError, match="no LoRA adapter"):
        llm.embed(TEXTS, lora_request=LoRARequest("none", 1, str(bert)), use_tqdm=False)
    larger = save(tmp_path / "larger", BertForSequenceClassification, num_labels=3)
    asked = adapter(larger, tmp_path / "head", ["query"], 2, 0, CLASSIFIER, task_type="SEQ_CLS")
    with pytest.raises(CheckpointError, match="it has whole tensors .*'classifier.weight'"):
        llm.embed(TEXTS, lora_request=asked, use_tqdm=False)
    pair = jaxpool.LLM(
        str(save(tmp_path / "pair", BertForSequenceClassification)), enable_lora=True
    )
    with pytest.raises(CheckpointError, match=r"classifier.\w+ wanted \(2,.*found \(3,.*merged"):
        pair.classify(TEXTS, lora_request=asked, use_tqdm=False)
    assert llm.loras.names == pair.loras.names == ()
