"""Varied real texts, a thousand in the slow tests, against sentence-transformers."""

import inspect
import random

import numpy as np
import pytest

TRUNCATE = {"truncate_prompt_tokens": -1}


def varied_texts(count: int) -> list[str]:
    """Docstrings of what is installed, short, long past the limit, and every odd script."""
    import jax
    import transformers

    odd = [
        "",
        " ",
        "\n\t",
        "a",
        "日本語のテキストです。",
        "한국어 문장",
        "😀🎉👩‍👩‍👧",
        "مرحبا بالعالم",
        "ﬁne ligature",
        "e\u0301 combining",
        "\u200bzero\u200bwidth",
        "[CLS] [SEP] [MASK]",
    ]
    docs = [
        inspect.getdoc(value)
        for module in (jax.numpy, np, random, inspect, jax.lax, transformers)
        for value in vars(module).values()
        if callable(value) and inspect.getdoc(value)
    ]
    docs = sorted(set(docs))
    rng = random.Random(0)
    cuts = [1 + int(rng.expovariate(1 / 250)) for _ in range(count - len(odd))]
    pieces = [doc[:cut] for doc, cut in zip(rng.choices(docs, k=len(cuts)), cuts, strict=True)]
    return odd + pieces


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_varied_texts_match_sentence_transformers(minilm, reference_minilm, count):
    texts = varied_texts(count)
    outputs = minilm.embed(texts, use_tqdm=False, tokenization_kwargs=TRUNCATE)
    ours = np.array([output.outputs.embedding for output in outputs])
    wanted = reference_minilm.encode(texts)
    assert max(len(output.prompt_token_ids) for output in outputs) == 256
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)
    assert (ours * wanted).sum(axis=1).min() >= 0.999999
