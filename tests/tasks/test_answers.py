"""Classifiers made of a vocabulary's own rows, against the logits of Hugging Face torch."""

import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.numpy import load_file

from jaxpool import LLM, PoolerConfig, PoolingParams
from tests.parity import save_random
from tests.small import TEXTS, add_tokenizer
from tests.tasks.test_reward import SIZES, STEPS, TAG

YES_NO = {"classifier_from_token": ["no", "yes"]}


def language_model(name: str, folder, tied: bool):
    """A language model of a family, with a tokenizer."""
    config = getattr(hf, f"{name}Config")(**SIZES, tie_word_embeddings=tied)
    return add_tokenizer(save_random(getattr(hf, f"{name}ForCausalLM"), config, folder))


def token_logits(name: str, folder, outputs, tokens) -> list[np.ndarray]:
    """The language model's logits `[text tokens, tokens]` of some outputs."""
    ids = hf.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(tokens)
    model = getattr(hf, f"{name}ForCausalLM").from_pretrained(folder).eval()
    with torch.no_grad():
        every = [model(torch.tensor([x.prompt_token_ids])).logits[0, :, ids] for x in outputs]
    return [logits.numpy() for logits in every]


@pytest.mark.parametrize(
    ("name", "tied", "fields"),
    [
        ("Qwen3", True, {"is_original_qwen3_reranker": True}),
        ("Qwen2", False, {"method": "from_2_way_softmax"}),
    ],
)
def test_two_way_softmax(name, tied, fields, tmp_path):
    folder = language_model(name, tmp_path / "model", tied)
    overrides = {"architectures": [f"{name}ForSequenceClassification"], **YES_NO, **fields}
    llm = LLM(str(folder), hf_overrides=overrides)
    outputs = llm.classify(TEXTS, use_tqdm=False)
    for output, logits in zip(
        outputs, token_logits(name, folder, outputs, ["no", "yes"]), strict=True
    ):
        wanted = torch.softmax(torch.tensor(logits[-1]), -1)[1]
        np.testing.assert_allclose(output.outputs.probs, [wanted], atol=1e-4)
    assert llm.model.params["heads"]["answers"]["kernel"].shape == (SIZES["hidden_size"], 2)
    before = load_file(folder / "model.safetensors")
    after = load_file(llm.model.export(tmp_path / "exported") / "model.safetensors")
    assert after.keys() == before.keys()  # the untied output embedding among them


def test_logits_of_tokens(tmp_path):
    folder = language_model("Gemma", tmp_path, tied=True)
    overrides = {
        "architectures": ["GemmaForSequenceClassification"],
        "classifier_from_token": ["yes"],
        "method": "no_post_processing",
    }
    llm = LLM(str(folder), hf_overrides=overrides)
    raw = PoolingParams(use_activation=False)
    outputs = llm.classify(TEXTS, pooling_params=raw, use_tqdm=False)
    for output, logits in zip(
        outputs, token_logits("Gemma", folder, outputs, ["yes"]), strict=True
    ):
        np.testing.assert_allclose(output.outputs.probs, logits[-1], atol=1e-4)


def test_answers_at_each_step(tmp_path):
    folder = language_model("Llama", tmp_path, tied=False)
    tokens = ["good", "bad"]
    ids = hf.AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(tokens)
    config = PoolerConfig(pooling_type="STEP", step_tag_id=TAG, returned_token_ids=ids)
    llm = LLM(str(folder), pooler_config=config)
    (output,) = outputs = llm.encode([STEPS], pooling_task="token_classify", use_tqdm=False)
    (logits,) = token_logits("Llama", folder, outputs, tokens)
    wanted = torch.softmax(torch.tensor(logits), -1)[np.array(output.prompt_token_ids) == TAG]
    assert len(wanted) == 2
    np.testing.assert_allclose(output.outputs.data, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "magic", **YES_NO}, "method 'magic' is unknown"),
        ({"method": "from_2_way_softmax", "classifier_from_token": ["yes"]}, "needs two tokens"),
        (
            {"method": "no_post_processing", "classifier_from_token": ["thisisnoword"]},
            "no token .'thisisnoword'",
        ),
    ],
)
def test_errors_name_the_field(fields, message, tmp_path):
    folder = language_model("Llama", tmp_path, tied=False)
    with pytest.raises(ValueError, match=message):
        LLM(str(folder), hf_overrides=fields)
