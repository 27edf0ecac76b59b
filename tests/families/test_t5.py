"""The encoder of T5 against Hugging Face torch, and its relative buckets."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from parity import check, save_random
from transformers.models.t5.modeling_t5 import T5Attention

from jaxpool.positions import relative_bucket

COMMON = dict(
    vocab_size=97,
    d_model=36,
    d_kv=10,
    d_ff=50,
    num_layers=3,
    num_heads=4,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
)


@pytest.mark.parametrize("mlp", ["relu", "gated-gelu"])
def test_hidden_states(mlp, tmp_path):
    config = hf.T5Config(**COMMON, feed_forward_proj=mlp)
    folder = save_random(hf.T5EncoderModel, config, tmp_path / "model")
    check(folder, hf.T5EncoderModel)


@pytest.mark.parametrize(("count", "longest"), [(32, 128), (8, 12), (16, 300)])
def test_buckets(count, longest):
    distance = np.arange(-1000, 1001, dtype=np.int32)
    wanted = T5Attention._relative_position_bucket(
        torch.from_numpy(distance).long(), True, count, longest
    )
    got = relative_bucket(jnp.asarray(distance), count, longest)
    np.testing.assert_array_equal(got, wanted.numpy())
