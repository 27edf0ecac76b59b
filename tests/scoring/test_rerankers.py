"""Rerankers made of language models: template, prompt and the logits of a few tokens, by torch."""

import numpy as np
import pytest
import torch
import transformers
from scoring.conftest import DOCUMENTS, QUERIES

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.files import orbax
from converters.heads.rerankers import own_name
from jaxpool import PoolingParams
from jaxpool.info import describe

TWO, ONE = "from_2_way_softmax", "no_post_processing"
JUDGE = "<|im_start|>system\nJudge whether the Document meets"
ASKED = {  # what hf_overrides say of models whose names say nothing
    "renamed": {"classifier_from_token": ["no", "yes"], "method": TWO},
    "plain": {"classifier_from_token": ["Yes"], "method": ONE},
}
RERANKERS = {  # folder: (class, answers, scale of the logit, first words of the prompt)
    "Qwen3-Reranker-0.6B": ("Qwen3", ["no", "yes"], 1, JUDGE),
    "zerank-2": ("Qwen3", ["Yes"], 5, f"<|im_start|>system\n{QUERIES[0]}<|im_end|>"),
    "mxbai-rerank-base-v2": ("Qwen2", ["0", "1"], 1, "<|im_start|>system\nYou are Qwen, created"),
    "bge-reranker-v2-gemma": ("Gemma", ["Yes"], 1, f"A: {QUERIES[0]}\nB: {DOCUMENTS[0]}\nGiven"),
    "renamed": ("Qwen3", ["no", "yes"], 1, JUDGE),
    "plain": ("Qwen2", ["Yes"], 1, f"{QUERIES[0]}{DOCUMENTS[0]}"),
}


@pytest.fixture(scope="module", params=RERANKERS)
def reranker(request, decoder):
    family, tokens, scale, words = RERANKERS[request.param]
    model_class = getattr(transformers, f"{family}ForCausalLM")
    folder = decoder(model_class, request.param)
    llm = jaxpool.LLM(str(folder), hf_overrides=ASKED.get(request.param))
    return llm, model_class.from_pretrained(folder).eval(), tokens, scale, words


def _reference(model, tokenizer, outputs, tokens) -> np.ndarray:
    """The last position's logits of the answers: their difference, or the only one."""
    ids = tokenizer.convert_tokens_to_ids(tokens)
    logits = []
    for output in outputs:
        with torch.no_grad():
            last = model(torch.tensor([output.prompt_token_ids])).logits[0, -1]
        logits.append(last[ids[-1]] - (last[ids[0]] if len(ids) > 1 else 0))
    return torch.stack(logits).numpy()


def test_scores(reranker, chat_tokenizer):
    llm, model, tokens, scale, words = reranker
    raw = PoolingParams(use_activation=False)
    logits = llm.score(QUERIES, DOCUMENTS, pooling_params=raw, use_tqdm=False)
    wanted = _reference(model, chat_tokenizer, logits, tokens) / scale
    np.testing.assert_allclose([o.outputs.score for o in logits], wanted, atol=1e-4)
    assert chat_tokenizer.decode(logits[0].prompt_token_ids).startswith(words)
    scores = [o.outputs.score for o in llm.score(QUERIES, DOCUMENTS, use_tqdm=False)]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-wanted)), atol=1e-4)
    shared = llm.score(QUERIES[0], DOCUMENTS, pooling_params=raw, use_tqdm=False)
    wanted = _reference(model, chat_tokenizer, shared, tokens) / scale
    np.testing.assert_allclose([o.outputs.score for o in shared], wanted, atol=1e-4)


def test_an_instruction_reaches_templates_that_have_one(reranker, chat_tokenizer):
    llm, *_ = reranker
    for extra in ({"instruction": "xyz"}, {"chat_template_kwargs": {"instruction": "xyz"}}):
        params = PoolingParams(extra_kwargs=extra)
        (output,) = llm.score("a", "b", pooling_params=params, use_tqdm=False)
        told = "xyz" in chat_tokenizer.decode(output.prompt_token_ids)
        assert told == (llm.model.checkpoint.folder.name not in ("bge-reranker-v2-gemma", "plain"))


def test_info_says_how_a_reranker_answers(decoder):
    folder = str(decoder(transformers.Qwen3ForCausalLM, "Qwen3-Reranker-4B"))
    facts = {fact.name: fact for fact in describe(folder)}
    answers, template = facts["answers"], facts["score template"]
    assert answers == ("answers", "'yes' over 'no'", "published qwen3 reranker")
    assert template == ("score template", "qwen3_reranker", "published qwen3 reranker")


def test_overrides_and_conversions_win(decoder):
    folder = decoder(transformers.Qwen3ForCausalLM, "Qwen3-Reranker-8B")
    asked = {"classifier_from_token": ["Yes"], "method": ONE}
    choice = open_checkpoint(folder, asked).choice
    assert (choice.words, choice.origin) == ("'Yes'", "config.json or hf_overrides")
    other = open_checkpoint(folder, {"classifier_from_token": ["0", "1"]}).choice
    assert (other.words, other.origin) == ("'1' over '0'", "published qwen3 reranker")
    assert open_checkpoint(folder, convert="embed").choice is None
    assert open_checkpoint(folder, name="Qwen3-4B").choice is None


def test_a_copy_answers_under_any_name(decoder, tmp_path):
    folder = decoder(transformers.Qwen3ForCausalLM, "Qwen3-Reranker-0.6B")
    checkpoint = open_checkpoint(folder)
    orbax.save(checkpoint, tmp_path / "copy")
    scores = [
        [o.outputs.score for o in jaxpool.LLM(str(f)).score(QUERIES[0], DOCUMENTS, use_tqdm=False)]
        for f in (folder, tmp_path / "copy")
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-Reranker-0.6B", "Qwen3-Reranker-0.6B"),
        ("/hub/models--Qwen--Qwen3-Reranker-0.6B/snapshots/6e9e", "Qwen3-Reranker-0.6B"),
        ("/qwen3-reranker-runs/Qwen3-Embedding-0.6B", "Qwen3-Embedding-0.6B"),
    ],
)
def test_the_name_of_a_model(model, name):
    assert own_name(model) == name
