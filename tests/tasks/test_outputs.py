"""Outputs hold arrays until their numbers are read, and are lists to whoever reads them."""

import pickle

import numpy as np

from jaxpool.tasks.outputs import EmbeddingOutput, PoolingRequestOutput


def test_numbers_are_lists_when_they_are_read():
    vector = np.arange(3, dtype=np.float32)
    output = EmbeddingOutput(vector)
    assert output.hidden_size == 3
    assert output.embedding == [0.0, 1.0, 2.0] and type(output.embedding[0]) is float
    assert output.embedding is output.embedding
    assert output == EmbeddingOutput([0.0, 1.0, 2.0]) == pickle.loads(pickle.dumps(output))


def test_token_ids_are_empty_unless_given():
    output = PoolingRequestOutput("0", EmbeddingOutput([1.0]))
    assert output.prompt_token_ids == []
    output.prompt_token_ids.append(5)
    assert PoolingRequestOutput("1", None).prompt_token_ids == []
