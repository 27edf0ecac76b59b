"""Query reuse: one query with N documents gives the scores of N pairs, and computes less."""

import numpy as np
import pytest
from scoring.conftest import DOCUMENTS, QUERIES
from transformers import Qwen3Config, Qwen3ForSequenceClassification

import jaxpool
from jaxpool.engine.batch import Request
from jaxpool.engine.planner import bucket_lengths
from jaxpool.engine.shared_prefix import common, plan_shared

QUERY = " ".join(QUERIES * 4)
MANY = [d[:n] for d in DOCUMENTS for n in (20, 60, 35, 80)]


@pytest.fixture(scope="module")
def reranker(checkpoint):
    config = Qwen3Config(
        vocab_size=30522,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        intermediate_size=96,
        num_labels=1,
        pad_token_id=0,
    )
    folder = checkpoint(Qwen3ForSequenceClassification, config, "qwen")
    return jaxpool.LLM(str(folder), chat_template="basic")


def test_the_same_scores_from_fewer_tokens(reranker):
    engine = reranker.model.engine
    start = engine.real_tokens
    apart = reranker.score([QUERY] * len(MANY), MANY, use_tqdm=False)
    middle = engine.real_tokens
    shared = reranker.score(QUERY, MANY, use_tqdm=False)
    scores = [[o.outputs.score for o in outputs] for outputs in (apart, shared)]
    np.testing.assert_allclose(*scores, atol=1e-5)
    assert [o.prompt_token_ids for o in shared] == [o.prompt_token_ids for o in apart]
    assert engine.real_tokens - middle < 0.6 * (middle - start)


def test_common():
    a, b = np.arange(20), np.concatenate([np.arange(12), [99, 98]])
    assert common([a, b]) == 12
    assert common([a, a]) == 19  # the last token is each text's own
    assert common([a]) == 0
    assert common([a[:5], b]) == 0  # too few to be worth a segment


def test_a_prefix_longer_than_a_batch_is_shared():
    rng = np.random.default_rng(0)
    prefix = rng.integers(5, 99, 700)
    texts = [np.concatenate([prefix, rng.integers(5, 99, 40)]) for _ in range(8)]
    plans, _ = plan_shared(
        [Request(x, shared=700) for x in texts], bucket_lengths(2048), 512, 1, 64
    )
    assert [(plan.rows, plan.length) for plan in plans] == [(1, 1024)]


def test_rows_hold_a_prefix_and_its_texts():
    rng = np.random.default_rng(0)
    prefixes = [rng.integers(5, 99, 30), rng.integers(5, 99, 20)]
    requests = [Request(rng.integers(5, 99, 11))]
    for i, size in enumerate([5, 9, 40, 3, 60, 7, 1, 2, 300, 90]):
        ids = np.concatenate([prefixes[i % 2], rng.integers(5, 99, size)])
        requests.append(Request(ids, shared=len(prefixes[i % 2])))
    plans, laid = plan_shared(requests, bucket_lengths(512), 512, 1, 64)
    seen = []
    for plan in plans:
        for row in range(plan.rows):
            members = plan.request[plan.row == row]
            parents = [laid[i].ids for i in members if i >= len(requests)] or [prefixes[0]]
            for i in members[members < len(requests)]:
                seen.append(i)
                whole = np.concatenate([parents[0][: laid[i].position], laid[i].ids])
                np.testing.assert_array_equal(whole, requests[i].ids)
    assert sorted(seen) == list(range(len(requests)))
