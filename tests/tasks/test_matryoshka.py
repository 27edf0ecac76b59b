"""Embeddings of fewer dimensions: what is cut, when, and which sizes are refused."""

import numpy as np
import pytest

from jaxpool import LLM, PoolingParams
from tests.small import TEXTS, vectors


def matryoshka(bert, **facts):
    return LLM(str(bert), hf_overrides=facts)


def test_dimensions_cut_before_normalization(bert):
    llm = matryoshka(bert, matryoshka_dimensions=[8, 16])
    raw = vectors(llm, pooling_params=PoolingParams(use_activation=False))[:, :8]
    cut = vectors(llm, pooling_params=PoolingParams(dimensions=8))
    np.testing.assert_allclose(cut, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    tokens = llm.encode(
        TEXTS, PoolingParams(dimensions=8), pooling_task="token_embed", use_tqdm=False
    )
    assert all(output.outputs.data.shape[1] == 8 for output in tokens)
    by_config = LLM(
        str(bert), hf_overrides={"is_matryoshka": True}, pooler_config={"dimensions": 8}
    )
    np.testing.assert_allclose(vectors(by_config), cut, atol=1e-6)


@pytest.mark.parametrize(
    ("facts", "dimensions", "message"),
    [
        ({"is_matryoshka": True}, 33, r"only supports dimensions in range \[1, 32\], got 33."),
        ({"is_matryoshka": True}, 0, r"only supports dimensions in range \[1, 32\], got 0."),
        ({"matryoshka_dimensions": [8]}, -1, r"dimensions in range \[1, 32\], got -1."),
        ({"matryoshka_dimensions": [8]}, 9, r"only supports Matryoshka dimensions \[8\], got 9."),
    ],
)
def test_dimensions_refused(bert, facts, dimensions, message):
    llm = matryoshka(bert, **facts)
    with pytest.raises(ValueError, match=message):
        llm.embed("a", pooling_params=PoolingParams(dimensions=dimensions))


def test_layer_norm_before_the_cut(bert):
    llm = matryoshka(bert, is_matryoshka=True, matryoshka_layer_norm=True)
    raw = vectors(LLM(str(bert), pooler_config={"use_activation": False}))
    layer = (raw - raw.mean(1, keepdims=True)) / np.sqrt(raw.var(1, keepdims=True) + 1e-5)
    wanted = layer[:, :8] / np.linalg.norm(layer[:, :8], axis=1, keepdims=True)
    ours = vectors(llm, pooling_params=PoolingParams(dimensions=8))
    np.testing.assert_allclose(ours, wanted, atol=1e-5)
