"""Classification and token classification against Hugging Face torch; activations; STEP pooling."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from jaxpool import LLM, PoolerConfig, PoolingParams
from jaxpool.tasks.resolve import activation
from tests.parity import SIZES, save_random
from tests.small import TEXTS, add_tokenizer, save

TAG = 1010  # "," in MiniLM's vocabulary
STEPS = "first we add, then we double, and we are done"


@pytest.fixture(scope="module", params=[1, 3])
def classifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    labels = {i: f"label {i}" for i in range(request.param)}
    return save(folder, BertForSequenceClassification, id2label=labels)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    return save(folder, BertForTokenClassification, num_labels=4)


def logits(model_class, folder, texts):
    """What Hugging Face gives each text alone."""
    model = model_class.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]


def probabilities(llm, params=None):
    outputs = llm.classify(TEXTS, pooling_params=params, use_tqdm=False)
    return np.array([output.outputs.probs for output in outputs])


def softmax(x):
    exps = np.exp(x - x.max(-1, keepdims=True))
    return exps / exps.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_problem_types(classifier):
    wanted = np.array(logits(BertForSequenceClassification, classifier, TEXTS))
    by_width = sigmoid if wanted.shape[1] == 1 else softmax
    for problem, act in (
        (None, by_width),
        ("single_label_classification", by_width),
        ("multi_label_classification", sigmoid),
        ("regression", np.asarray),
    ):
        llm = LLM(str(classifier), hf_overrides={"problem_type": problem})
        np.testing.assert_allclose(probabilities(llm), act(wanted), atol=1e-4)
    raw = probabilities(llm, PoolingParams(use_activation=False))
    np.testing.assert_allclose(raw, wanted, atol=1e-4)
    assert llm.model_config.id2label == {i: f"label {i}" for i in range(wanted.shape[1])}


def test_calibration(classifier):
    config = PoolerConfig(logit_mean=0.3, logit_sigma=2.0)
    llm = LLM(str(classifier), pooler_config=config, hf_overrides={"problem_type": "regression"})
    wanted = np.array(logits(BertForSequenceClassification, classifier, TEXTS))
    np.testing.assert_allclose(probabilities(llm), (wanted - 0.3) / 2, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "labels", "wanted"),
    [
        ({}, 1, "sigmoid"),
        ({}, 2, "softmax"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            1,
            "identity",
        ),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
            3,
            "softmax",
        ),
        (
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
            1,
            "identity",
        ),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, 1, "tanh"),
        (
            {
                "sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"},
                "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
            },
            1,
            "tanh",
        ),
        (
            {
                "problem_type": "regression",
                "sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh",
            },
            1,
            "identity",
        ),
    ],
)
def test_activation_of_a_checkpoint(config, labels, wanted):
    assert activation(SimpleNamespace(**config), labels) == wanted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os.system", "restricted to torch.nn.modules"),
        ("torch.nn.modules.activation.Hardswish", "unknown activation"),
    ],
)
def test_activation_refused(name, message):
    with pytest.raises(ValueError, match=message):
        activation(SimpleNamespace(sbert_ce_default_activation_function=name), 1)


def test_token_classification(tagger):
    llm = LLM(str(tagger))
    outputs = llm.encode(TEXTS, pooling_task="token_classify", use_tqdm=False)
    for output, wanted in zip(
        outputs, logits(BertForTokenClassification, tagger, TEXTS), strict=True
    ):
        np.testing.assert_allclose(output.outputs.data, softmax(wanted), atol=1e-4)


def step(tagger, params=None, **config):
    llm = LLM(str(tagger), pooler_config={"pooling_type": "STEP", **config})
    (output,) = llm.encode(STEPS, params, pooling_task="token_classify", use_tqdm=False)
    return output


def test_step_pooling(tagger):
    (wanted,) = logits(BertForTokenClassification, tagger, [STEPS])
    output = step(tagger, step_tag_id=TAG)
    rows = np.array(output.prompt_token_ids) == TAG
    assert rows.sum() == 2
    np.testing.assert_allclose(output.outputs.data, softmax(wanted)[rows], atol=1e-4)
    asked = step(tagger, PoolingParams(step_tag_id=TAG))
    np.testing.assert_array_equal(asked.outputs.data, output.outputs.data)


def test_returned_columns_are_activated_after_selection(tagger):
    (wanted,) = logits(BertForTokenClassification, tagger, [STEPS])
    output = step(tagger, returned_token_ids=[0, 2])
    np.testing.assert_allclose(output.outputs.data, softmax(wanted[:, [0, 2]]), atol=1e-4)
    raw = step(tagger, PoolingParams(use_activation=False), returned_token_ids=[0, 2])
    np.testing.assert_allclose(raw.outputs.data, wanted[:, [0, 2]], atol=1e-4)


def test_a_text_without_the_tag_gives_no_rows(tagger):
    assert step(tagger, step_tag_id=7).outputs.data.shape == (0, 4)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"step_tag_id": 30522}, "step_tag_id 30522 is out of vocabulary"),
        ({"step_tag_id": -1}, "step_tag_id -1 is out of vocabulary"),
        ({"returned_token_ids": [4]}, r"returned_token_ids must be in \[0, 3\], got 4"),
    ],
)
def test_step_refused_at_load(tagger, config, message):
    with pytest.raises(ValueError, match=message):
        LLM(str(tagger), pooler_config={"pooling_type": "STEP", **config})


def test_step_refused_in_a_request(tagger):
    with pytest.raises(ValueError, match="step_tag_id 99999 is out of vocabulary"):
        step(tagger, PoolingParams(step_tag_id=99999))
    with pytest.raises(ValueError, match="'returned_token_ids'.*parameters"):
        LLM(str(tagger)).encode(
            "a", PoolingParams(returned_token_ids=[1]), pooling_task="token_classify"
        )


def test_padding_at_the_end_of_a_text_is_not_what_a_decoder_reads(tmp_path):
    """transformers looks for the last token that is not config.pad_token_id, wherever it is."""
    sizes = SIZES | {"vocab_size": 30522, "hidden_size": 32, "num_key_value_heads": 2}
    config = LlamaConfig(**sizes, pad_token_id=102)  # [SEP]
    folder = add_tokenizer(save_random(LlamaForSequenceClassification, config, tmp_path))
    texts = [[7, 8, 9], [7, 8, 9, 102], [7, 102, 9, 102, 102], [102, 102]]
    raw = PoolingParams(use_activation=False)
    outputs = LLM(str(folder)).classify(texts, pooling_params=raw, use_tqdm=False)
    model = LlamaForSequenceClassification.from_pretrained(folder).eval()
    for text, output in zip(texts, outputs, strict=True):
        with torch.no_grad():
            wanted = model(torch.tensor([text])).logits[0].numpy()
        np.testing.assert_allclose(output.outputs.probs, wanted, atol=1e-4)
