"""Rerankers made of language models: template, prompt and the logits of a few tokens, by torch."""

import numpy as np
import pytest
import torch
import transformers
from scoring.conftest import DOCUMENTS, QUERIES

import jaxpool
from jaxpool import PoolingParams

TWO = "from_2_way_softmax"
RERANKERS = {  # folder: (family, tokens, method, first words of the prompt)
    "renamed": ("Qwen3", ["no", "yes"], TWO, "[CLS] < | im _ start | > system judge whether"),
    "mxbai-rerank-base-v2": ("Qwen2", ["0", "1"], TWO, "[CLS] < | im _ start | > system you are"),
    "bge-reranker-v2-gemma": ("Gemma", ["yes"], "no_post_processing", "[CLS] a : how do vaccines"),
    "plain": ("Qwen2", ["yes"], "no_post_processing", "[CLS] how do vaccines work? a vaccine"),
}


@pytest.fixture(scope="module", params=RERANKERS)
def reranker(request, checkpoint):
    family, tokens, method, words = RERANKERS[request.param]
    config = getattr(transformers, f"{family}Config")(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=96,
        pad_token_id=0,
        max_position_embeddings=512,
    )
    model_class = getattr(transformers, f"{family}ForCausalLM")
    folder = checkpoint(model_class, config, request.param, 512)
    overrides = {
        "architectures": [f"{family}ForSequenceClassification"],
        "classifier_from_token": tokens,
        "method": method,
    }
    llm = jaxpool.LLM(str(folder), hf_overrides=overrides)
    return llm, model_class.from_pretrained(folder).eval(), tokens, words


def _reference(model, tokenizer, outputs, tokens) -> np.ndarray:
    """The last position's logits of the answers: their difference, or the only one."""
    ids = tokenizer.convert_tokens_to_ids(tokens)
    logits = []
    for output in outputs:
        with torch.no_grad():
            last = model(torch.tensor([output.prompt_token_ids])).logits[0, -1]
        logits.append(last[ids[-1]] - (last[ids[0]] if len(ids) > 1 else 0))
    return torch.stack(logits).numpy()


def test_scores(reranker, bert_tokenizer):
    llm, model, tokens, words = reranker
    raw = PoolingParams(use_activation=False)
    logits = llm.score(QUERIES, DOCUMENTS, pooling_params=raw, use_tqdm=False)
    wanted = _reference(model, bert_tokenizer, logits, tokens)
    np.testing.assert_allclose([o.outputs.score for o in logits], wanted, atol=1e-4)
    assert bert_tokenizer.decode(logits[0].prompt_token_ids).startswith(words)
    scores = [o.outputs.score for o in llm.score(QUERIES, DOCUMENTS, use_tqdm=False)]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-wanted)), atol=1e-4)
    shared = llm.score(QUERIES[0], DOCUMENTS, pooling_params=raw, use_tqdm=False)
    wanted = _reference(model, bert_tokenizer, shared, tokens)
    np.testing.assert_allclose([o.outputs.score for o in shared], wanted, atol=1e-4)


def test_an_instruction_reaches_templates_that_have_one(reranker, bert_tokenizer):
    llm, *_ = reranker
    for extra in ({"instruction": "xyz"}, {"chat_template_kwargs": {"instruction": "xyz"}}):
        params = PoolingParams(extra_kwargs=extra)
        (output,) = llm.score("a", "b", pooling_params=params, use_tqdm=False)
        told = "< instruct > : xyz" in bert_tokenizer.decode(output.prompt_token_ids)
        assert told == ("renamed" in llm.model.name)
