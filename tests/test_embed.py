"""The main job: real embeddings of real text, equal to sentence-transformers'."""

import inspect
import random

import numpy as np
import pytest

TRUNCATE = {"truncate_prompt_tokens": -1}


def varied_texts(count: int = 1000) -> list[str]:
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


def test_thousand_texts_match_sentence_transformers(minilm, reference_minilm):
    texts = varied_texts()
    outputs = minilm.embed(texts, use_tqdm=False, tokenization_kwargs=TRUNCATE)
    ours = np.array([output.outputs.embedding for output in outputs])
    wanted = reference_minilm.encode(texts)
    assert max(len(output.prompt_token_ids) for output in outputs) == 256
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)
    assert (ours * wanted).sum(axis=1).min() >= 0.999999


def test_every_kind_of_prompt_gives_the_same_vector(minilm):
    text = "Hello, my name is jaxpool."
    ids = minilm.get_tokenizer()(text)["input_ids"]
    prompts = [text, ids, {"prompt": text}, {"prompt_token_ids": ids}]
    vectors = [output.outputs.embedding for output in minilm.embed(prompts, use_tqdm=False)]
    single = minilm.embed(ids, use_tqdm=False)
    assert len(single) == 1 and single[0].prompt_token_ids == ids
    for vector in [*vectors, single[0].outputs.embedding]:
        np.testing.assert_allclose(vector, vectors[0], atol=1e-6)


def test_output_classes_print_as_the_contract_says(minilm):
    (output,) = minilm.embed("hi", use_tqdm=False)
    assert repr(output.outputs) == "EmbeddingOutput(hidden_size=384)"
    assert repr(output) == (
        "EmbeddingRequestOutput(request_id='0', outputs=EmbeddingOutput(hidden_size=384), "
        "prompt_token_ids=[101, 7632, 102], num_cached_tokens=0, finished=True)"
    )


@pytest.mark.parametrize(
    "prompts,error,message",
    [
        ([], ValueError, "You must pass at least one prompt"),
        ([[]], ValueError, "cannot be empty"),
        (3, TypeError, "Prompt should be a string, list of tokens, or dictionary"),
        ([None], TypeError, "Prompt should be a string, list of tokens, or dictionary"),
        ({"text": "x"}, TypeError, "Prompt dictionary must contain text, tokens, or embeddings"),
        ({"prompt": 3}, TypeError, "Prompt text should be a string"),
        ([[1, "a"]], TypeError, "Token prompt should be a list of integers"),
        ([[1, 30522]], ValueError, "Token id 30522 is out of vocabulary"),
        ([[-1]], ValueError, "Token id -1 is out of vocabulary"),
        ("word " * 300, ValueError, "maximum context length is 256 tokens"),
    ],
)
def test_bad_prompts(minilm, prompts, error, message):
    with pytest.raises(error, match=message):
        minilm.embed(prompts, use_tqdm=False)
