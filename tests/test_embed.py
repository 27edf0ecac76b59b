"""The main job: prompts of every kind in, embeddings out, clear errors on bad input."""

import numpy as np
import pytest


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
