"""Reward models: outcome, token and process rewards against Hugging Face torch."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2Model,
)

from jaxpool import LLM, PoolingParams
from tests.parity import save_random
from tests.small import TEXTS, add_tokenizer

DIM, TAG = 32, 1010
SIZES = dict(
    vocab_size=30522,
    hidden_size=DIM,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
    pad_token_id=0,
)
STEPS = "first we add, then we double, and we are done"


def reward_folder(folder, architecture: str, labels: int):
    """A Qwen2 with the two-layer value head of Qwen2.5-Math-RM and -PRM."""
    save_random(Qwen2Model, Qwen2Config(**SIZES), folder)
    file = folder / "model.safetensors"
    tensors = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    for name, rows in (("score.0", DIM), ("score.2", labels)):
        tensors[f"{name}.weight"] = 0.3 * torch.randn(rows, DIM)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(rows)
    save_file(tensors, file)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": [architecture]}
    (folder / "config.json").write_text(json.dumps(config))
    return add_tokenizer(folder), tensors


def values(tensors, outputs):
    """The value head of each token of some outputs, by torch."""
    weights = {name.removeprefix("model."): t for name, t in tensors.items()}
    head = {name: weights.pop(name) for name in list(weights) if name.startswith("score.")}
    model = Qwen2Model(Qwen2Config(**SIZES)).eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        for output in outputs:
            ids = torch.tensor([output.prompt_token_ids])
            hidden = model(input_ids=ids).last_hidden_state[0]
            inner = torch.relu(hidden @ head["score.0.weight"].T + head["score.0.bias"])
            yield (inner @ head["score.2.weight"].T + head["score.2.bias"]).numpy()


def test_a_reward_for_each_token(tmp_path):
    folder, tensors = reward_folder(tmp_path, "Qwen2ForRewardModel", 1)
    llm = LLM(str(folder))
    assert llm.pooling_task == "token_classify"
    assert llm.model.resolution.origins["use_activation"] == "model class"
    outputs = llm.reward(TEXTS, use_tqdm=False)
    for output, wanted in zip(outputs, values(tensors, outputs), strict=True):
        np.testing.assert_allclose(output.outputs.data, wanted, atol=1e-4)


def test_a_reward_for_each_step(tmp_path):
    folder, tensors = reward_folder(tmp_path, "Qwen2ForProcessRewardModel", 2)
    llm = LLM(str(folder), pooler_config={"step_tag_id": TAG})
    assert llm.model.pooler_config.tok_pooling_type == "STEP"
    (output,) = outputs = llm.reward(STEPS, use_tqdm=False)
    (wanted,) = values(tensors, outputs)
    rows = wanted[np.array(output.prompt_token_ids) == TAG]
    assert len(rows) == 2
    exps = np.exp(rows)
    np.testing.assert_allclose(output.outputs.data, exps / exps.sum(-1, keepdims=True), atol=1e-4)


def test_the_step_tag_of_the_class_must_be_in_the_vocabulary(tmp_path):
    folder, _ = reward_folder(tmp_path, "Qwen2ForProcessRewardModel", 2)
    with pytest.raises(ValueError, match="step_tag_id 151651 is out of vocabulary"):
        LLM(str(folder))


def test_a_reward_for_each_text(tmp_path):
    config = LlamaConfig(**SIZES, num_labels=1)
    folder = add_tokenizer(save_random(LlamaForSequenceClassification, config, tmp_path))
    llm = LLM(str(folder))
    outputs = llm.reward(TEXTS, use_tqdm=False)
    model = LlamaForSequenceClassification.from_pretrained(folder).eval()
    for output in outputs:
        with torch.no_grad():
            wanted = model(torch.tensor([output.prompt_token_ids])).logits[0].numpy()
        np.testing.assert_allclose(output.outputs.data, wanted, atol=1e-4)
    shares = llm.reward(TEXTS, pooling_params=PoolingParams(use_activation=True), use_tqdm=False)
    every = llm.encode(TEXTS, pooling_task="token_classify", use_tqdm=False)
    for raw, share, tokens in zip(outputs, shares, every, strict=True):
        wanted = 1 / (1 + np.exp(-raw.outputs.data))
        np.testing.assert_allclose(share.outputs.data, wanted, atol=1e-6)
        np.testing.assert_allclose(tokens.outputs.data[-1], wanted, atol=1e-6)
