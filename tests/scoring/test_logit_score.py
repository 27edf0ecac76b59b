"""CrossEncoders of sentence-transformers 6: LogitScore modules, saved templates and activations."""

import numpy as np
import pytest
import torch
from scoring.conftest import DOCUMENTS, QUERIES, small_bert
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from transformers import BertForSequenceClassification, Qwen3ForCausalLM

import jaxpool
from jaxpool import PoolingParams
from jaxpool.info import describe

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PAIRS = list(zip(QUERIES, DOCUMENTS, strict=True))


def _scores(llm, params=None):
    outputs = llm.score(QUERIES, DOCUMENTS, pooling_params=params, use_tqdm=False)
    return [output.outputs.score for output in outputs]


@pytest.mark.parametrize(
    ("template", "negative", "act"),
    [
        (TEMPLATE, True, torch.nn.Identity()),
        (TEMPLATE, False, torch.nn.Sigmoid()),
        (None, True, None),
    ],
)
def test_logit_score(template, negative, act, decoder, chat_tokenizer):
    folder = decoder(Qwen3ForCausalLM, "some-reranker")
    if template:
        (folder / "chat_template.jinja").write_text(template)
    reference = CrossEncoder(str(folder), device="cpu", activation_fn=act)
    if not negative:
        reference[1] = LogitScore(chat_tokenizer.convert_tokens_to_ids("Yes"))
    if template:
        reference[0].processing_kwargs = {"chat_template": {"add_generation_prompt": True}}
    saved = folder.parent / "saved"
    reference.save_pretrained(str(saved))
    llm = jaxpool.LLM(str(saved))
    np.testing.assert_allclose(_scores(llm), reference.predict(PAIRS), atol=1e-4)
    raw = reference.predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(_scores(llm, PoolingParams(use_activation=False)), raw, atol=1e-4)
    facts = {fact.name: fact.origin for fact in describe(str(saved))}
    assert facts["answers"] == "LogitScore module"
    assert ("score template" in facts) == bool(template)


@pytest.mark.parametrize("labels", [1, 3])
def test_the_activation_of_its_own_file(labels, checkpoint):
    folder = checkpoint(BertForSequenceClassification, small_bert(num_labels=labels), "cross")
    reference = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Tanh())
    saved = folder.parent / "saved"
    reference.save_pretrained(str(saved))
    outputs = jaxpool.LLM(str(saved)).encode(QUERIES, pooling_task="classify", use_tqdm=False)
    with torch.no_grad():
        logits = reference[0].model(
            **reference.tokenizer(QUERIES, return_tensors="pt", padding=True)
        )
    wanted = torch.tanh(logits.logits)
    np.testing.assert_allclose([o.outputs.data for o in outputs], wanted, atol=1e-4)
