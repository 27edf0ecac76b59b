"""The main job: real embeddings of real text, equal to sentence-transformers'."""

import numpy as np

TEXTS = ["Hello world", "a much longer sentence about cats and dogs", "", "日本語のテキスト 🙂"]


def test_matches_sentence_transformers(minilm, reference_minilm):
    outputs = minilm.embed(TEXTS, use_tqdm=False)
    ours = np.array([output.outputs.embedding for output in outputs])
    np.testing.assert_allclose(ours, reference_minilm.encode(TEXTS), atol=1e-5)
