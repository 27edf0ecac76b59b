"""Qwen2.5-VL, whose tower attends within squares, against transformers."""

import numpy as np
import pytest
from transformers import Qwen2_5_VLModel

import jaxpool
from tests.images import joined_models as models
from tests.images.test_joined import PROMPTS, images_of, requests
from tests.images.test_towers import near, vectors


def test_a_mix_of_texts_and_images(tmp_path):
    """Images of less than a square, of several, and of parts of some at their edges."""
    folder = models.qwen2_5_vl(tmp_path / "m")
    llm = jaxpool.LLM(str(folder), data_parallel_size=1)
    reference = models.QwenReference(folder, Qwen2_5_VLModel)
    asked = requests(llm, PROMPTS)
    sizes = {(p.rows, p.cols) for one in asked for p in one.pictures}
    assert any(rows > 4 and cols > 4 and cols % 4 for rows, cols in sizes)
    assert llm.model.arch.vision.windows == (4, 0, 4)
    for prompt, one, found in zip(PROMPTS, asked, vectors(llm, PROMPTS), strict=True):
        hidden = reference(one.ids, images_of(prompt))[-1]
        near(found, hidden / np.linalg.norm(hidden))


@pytest.mark.slow
def test_vectors_of_tokens(tmp_path):
    folder = models.qwen2_5_vl(tmp_path / "m")
    llm = jaxpool.LLM(str(folder), data_parallel_size=1)
    reference = models.QwenReference(folder, Qwen2_5_VLModel)
    found = llm.encode(PROMPTS, pooling_task="token_embed", use_tqdm=False)
    for prompt, one, output in zip(PROMPTS, requests(llm, PROMPTS), found, strict=True):
        hidden = reference(one.ids, images_of(prompt))
        near(output.outputs.data, hidden / np.linalg.norm(hidden, axis=-1, keepdims=True))
