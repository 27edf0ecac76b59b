"""The planner: each request placed once, little padding, and no effect on vectors."""

import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.bucketing import BUCKETING
from jaxpool.engine.executor import Executor
from jaxpool.engine.sharding import make_mesh
from jaxpool.heads.steps import Normalize, Pool
from jaxpool.nn import params
from jaxpool.nn.arch import Arch

BUCKETS = planner.bucket_lengths(64)
LIMITS = {"queries": 512, "paragraphs": 512, "documents": 8192}
LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=40)


def mix(name: str, count: int, seed: int = 0) -> list[int]:
    """Lengths of short queries, of paragraphs, or of long documents."""
    rng = np.random.default_rng(seed)
    match name:
        case "queries":
            return rng.integers(5, 33, count).tolist()
        case "paragraphs":
            drawn = np.exp(rng.normal(np.log(40), 0.9, count))
            return np.clip(drawn, 3, 512).astype(int).tolist()
        case "documents":
            drawn = np.exp(rng.normal(np.log(1500), 0.8, count))
            return np.clip(drawn, 100, 8192).astype(int).tolist()


@given(LENGTHS, st.sampled_from([64, 128, 1000]), st.sampled_from([1, 2, 8]))
def test_places_each_request_once(lengths, budget, multiple):
    plans = planner.plan(lengths, BUCKETS, budget, multiple)
    assert sorted(i for p in plans for i in p.request) == list(range(len(lengths)))
    known = set(planner.shapes(BUCKETS, budget, multiple))
    for p in plans:
        assert (p.rows, p.length) in known and p.rows % multiple == 0
        assert p.rows == multiple or p.rows * p.length <= budget
        taken = np.zeros((p.rows, p.length), int)
        for index, row, start in zip(p.request, p.row, p.start, strict=True):
            assert start + lengths[index] <= p.length
            taken[row, start : start + lengths[index]] += 1
        assert taken.max() == 1
        assert p.segment.max() <= batching.segments_of(p.length)


@given(LENGTHS)
def test_fill_writes_what_unpack_reads(lengths):
    rng = np.random.default_rng(0)
    requests = [batching.Request(rng.integers(1, 99, n).astype(np.int32)) for n in lengths]
    seen = 0
    for p in planner.plan(lengths, BUCKETS, 128):
        batch, _ = batching.fill(p, requests)
        for index, tokens in batching.unpack(p, batch.tokens, requests, pooled=False):
            assert tokens.tolist() == requests[index].ids.tolist()
            seen += 1
        for index, places in batching.unpack(p, batch.positions, requests, pooled=False):
            assert places.tolist() == list(range(lengths[index]))
        assert np.count_nonzero(batch.segments) == sum(lengths[i] for i in p.request)
    assert seen == len(lengths)


@pytest.mark.parametrize("platform", BUCKETING)
@pytest.mark.parametrize("name, limit", LIMITS.items())
def test_computes_few_tokens_that_are_not_real(name, limit, platform):
    lengths, (budget, steps) = mix(name, 1000), BUCKETING[platform]
    plans = planner.plan(lengths, planner.bucket_lengths(limit, steps), max(budget, limit))
    assert planner.efficiency(plans, lengths) >= 0.95
    assert len({(p.rows, p.length) for p in plans}) <= 16


@pytest.mark.parametrize("count, longest, least", [(3, 20, 0.3), (64, 32, 0.9)])
def test_few_texts_fill_the_rows_that_every_shard_has(count, longest, least):
    lengths = np.random.default_rng(0).integers(5, longest, count).tolist()
    plans = planner.plan(lengths, planner.bucket_lengths(512, 1), 16384, 4)
    assert planner.efficiency(plans, lengths) >= least


def test_planning_time_grows_with_the_requests_not_their_square():
    def seconds(count):
        lengths, times = mix("paragraphs", count), []
        for _ in range(3):
            start = time.process_time()
            planner.plan(lengths, planner.bucket_lengths(512), 1024)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(64_000) < 64 * seconds(4_000)  # 16 times the requests; their square is 256


def test_one_text_is_one_short_row():
    (p,) = planner.plan([9], planner.bucket_lengths(512), 1024)
    assert (p.rows, p.length) == (1, 16)


def test_too_long_a_request_is_refused():
    with pytest.raises(ValueError, match="65 tokens is beyond the limit of 64"):
        planner.plan([3, 65], BUCKETS, 128)


@pytest.fixture(scope="module")
def vectors():
    """`vectors(requests, plans)` of a tiny random BERT."""
    sizes = {"vocab": 99, "layers": 2, "dim": 32, "heads": 4, "kv_heads": 4, "head_dim": 8}
    arch = Arch(**sizes, mlp_dim=64, positions=64, embed_norm=True, max_length=64)
    weights = params.init(jax.random.key(0), params.abstract(arch), 0.1)
    executor = Executor(weights, arch, make_mesh(1, 1))
    steps = (Pool(("mean", "cls")), Normalize())

    def compute(requests, plans):
        found = [None] * len(requests)
        for p in plans:
            output = np.asarray(executor((steps,), *batching.fill(p, requests))[0])
            for index, vector in batching.unpack(p, output, requests, pooled=True):
                found[index] = vector
        return np.array(found)

    return compute


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=12), st.randoms())
def test_packing_bucket_and_order_never_change_a_vector(vectors, lengths, random):
    rng = np.random.default_rng(len(lengths))
    requests = [batching.Request(rng.integers(1, 99, n).astype(np.int32)) for n in lengths]
    alone = [batching.place([[i]], 1, 64, lengths) for i in range(len(lengths))]
    wanted = vectors(requests, alone)
    order = list(range(len(lengths)))
    random.shuffle(order)
    shuffled = [requests[i] for i in order]
    plans = planner.plan([lengths[i] for i in order], BUCKETS, 128)
    np.testing.assert_allclose(vectors(shuffled, plans), wanted[order], atol=1e-5, rtol=0)


def test_a_further_batch_is_avoided_where_padding_costs_less_than_a_call():
    lengths, shape = [14] * 64, (planner.bucket_lengths(512), 1024)
    assert [(p.rows, p.length) for p in planner.plan(lengths, *shape, call=200)] == [(8, 128)]
    several = planner.plan(lengths, *shape)
    assert len(several) > 2 and planner.efficiency(several, lengths) > 0.98
