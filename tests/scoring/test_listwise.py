"""Listwise reranking against Hugging Face torch: one prompt, vectors of markers, cosines."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from scoring.conftest import DOCUMENTS, QUERIES
from transformers import Qwen3Model

import jaxpool
from jaxpool import PoolingParams
from jaxpool.info import describe
from jaxpool.scoring.listwise import Listwise, Prompt
from jaxpool.scoring.pairs import prepare_scores

SYSTEM = "<|im_start|>system\nYou are a search relevance expert who can determine a ranking of "
WINDOWS = dict(  # jina-reranker-v3.5's, whose last layer sees all
    use_sliding_window=True,
    sliding_window=40,
    layer_types=["sliding_attention", "full_attention"],
)
MANY = [d[:n] for d in DOCUMENTS for n in (20, 60)]


@pytest.fixture(scope="module")
def folder(decoder):
    return listwise_folder(decoder)


def listwise_folder(decoder):
    """A random listwise reranker."""
    folder = decoder(Qwen3Model, "listwise", max_position_embeddings=4096, **WINDOWS)
    file, random = folder / "model.safetensors", np.random.default_rng(0)
    tensors = {f"model.{name}": tensor for name, tensor in load_file(file).items()}
    for name, shape in (("projector.0.weight", (32, 64)), ("projector.2.weight", (24, 32))):
        tensors[name] = random.normal(size=shape).astype(np.float32)
    save_file(tensors, file)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["JinaForRanking"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def llm(folder):
    return jaxpool.LLM(str(folder))


@pytest.fixture(scope="module")
def vectors(folder, decoder, chat_tokenizer):
    """Projected hidden states of some token ids at the markers: documents', then the query's."""
    tensors = load_file(folder / "model.safetensors")
    first, second = (torch.tensor(tensors[f"projector.{i}.weight"]) for i in (0, 2))
    model = Qwen3Model.from_pretrained(decoder(Qwen3Model, "reference", **WINDOWS)).eval()
    marks = chat_tokenizer.convert_tokens_to_ids(["<|embed_token|>", "<|rerank_token|>"])

    def project(ids):
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        rows = [hidden[torch.tensor(ids) == mark] for mark in marks]
        return [torch.relu(row @ first.T) @ second.T for row in rows]

    return project


def _cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def _scores(outputs):
    return [output.outputs.score for output in outputs]


def test_one_prompt(llm, vectors, chat_tokenizer):
    params = PoolingParams(extra_kwargs={"instruction": "Find the cause."})
    outputs = llm.score(QUERIES[0], DOCUMENTS, pooling_params=params, use_tqdm=False)
    documents, query = vectors(outputs[0].prompt_token_ids)
    assert documents.shape == (3, 24) and query.shape == (1, 24)
    np.testing.assert_allclose(_scores(outputs), _cosine(documents, query), atol=1e-4)
    text = chat_tokenizer.decode(outputs[0].prompt_token_ids)
    passages = "\n".join(
        f'<passage id="{i}">\n{d}<|embed_token|>\n</passage>' for i, d in enumerate(DOCUMENTS)
    )
    assert text.startswith(SYSTEM)
    assert text.endswith(
        "when determining the ranking.<|im_end|>\n<|im_start|>user\nI will provide you with 3 "
        "passages, each indicated by a numerical identifier. Rank the passages based on their "
        f"relevance to query: {QUERIES[0]}\n<instruct>\nFind the cause.\n</instruct>\n{passages}\n"
        f"<query>\n{QUERIES[0]}<|rerank_token|>\n</query><|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n"
    )


def test_several_prompts_share_a_query(llm, vectors, monkeypatch):
    rule = Listwise("<|rerank_token|>", "<|embed_token|>", documents=4)
    monkeypatch.setattr(type(llm.model), "listwise", rule)
    outputs = llm.score(QUERIES[0], MANY, use_tqdm=False)
    prompts = list(dict.fromkeys(tuple(o.prompt_token_ids) for o in outputs))
    parts = [vectors(list(ids)) for ids in prompts]
    assert [len(documents) for documents, _ in parts] == [4, 2]
    weights = [((1 + _cosine(documents, query)) / 2).max().item() for documents, query in parts]
    query = np.average([query[0] for _, query in parts], axis=0, weights=weights)
    wanted = _cosine(torch.cat([documents for documents, _ in parts]), torch.tensor(query)[None])
    np.testing.assert_allclose(_scores(outputs), wanted, atol=1e-4)


def test_long_texts_are_cut_and_the_end_of_the_prompt_stays(llm, chat_tokenizer):
    long = " ".join(DOCUMENTS) * 40
    scoring = prepare_scores(llm.model, QUERIES[0], [long, DOCUMENTS[0]])
    requests = scoring.parts[0].requests
    assert requests[0].cut
    for request in requests:
        assert len(request.ids) <= llm.model.max_length
        assert chat_tokenizer.decode(request.ids).endswith("</think>\n\n")
    whole = prepare_scores(llm.model, QUERIES[0], DOCUMENTS[:2])
    assert not any(r.cut for r in whole.parts[0].requests)


def test_pairs(llm, vectors):
    outputs = llm.score(QUERIES, DOCUMENTS, use_tqdm=False)
    wanted = [_cosine(*vectors(output.prompt_token_ids)).item() for output in outputs]
    np.testing.assert_allclose(_scores(outputs), wanted, atol=1e-4)


def test_markers_within_texts_do_not_count(llm):
    marked = [f"<|embed_token|>{DOCUMENTS[0]}", *DOCUMENTS[1:]]
    outputs = [
        llm.score(f"{q}", d, use_tqdm=False)
        for q, d in ((QUERIES[0], DOCUMENTS), (f"<|rerank_token|>{QUERIES[0]}", marked))
    ]
    assert _scores(outputs[0]) == _scores(outputs[1])


def test_prompts_are_filled_in_order():
    rule = Listwise("q", "d", documents=3, document_length=50)
    assert rule.prompts([10, 5], [40, 40], 200) == [Prompt(0, [0]), Prompt(1, [1])]
    assert rule.prompts([10], [40] * 7, 1000) == [
        Prompt(0, [0, 1, 2]),
        Prompt(0, [3, 4, 5]),
        Prompt(0, [6]),
    ]
    assert [p.documents for p in rule.prompts([10], [40] * 5, 150)] == [[0, 1], [2, 3], [4]]
    assert [p.documents for p in rule.prompts([10], [40] * 2, 60)] == [[0], [1]]


def test_a_vocabulary_without_the_markers(llm, monkeypatch):
    monkeypatch.setattr(type(llm.model), "listwise", Listwise("<q>", "<|embed_token|>"))
    with pytest.raises(ValueError, match="the vocabulary has no .*<q>, which listwise prompts"):
        llm.score(QUERIES[0], DOCUMENTS)


def test_info(folder):
    facts = {fact.name: fact.value for fact in describe(str(folder))}
    assert facts["score template"] == "jina-reranker-v3"
