"""PoolingParams, PoolerConfig and prompts: fields, aliases, reprs, and what they refuse."""

import pytest

from jaxpool import PoolerConfig, PoolingParams
from jaxpool.tasks.pooling_params import as_pooler_config
from jaxpool.text.prompts import as_prompts


def test_params_print_in_order():
    params = PoolingParams(task="embed", dimensions=8)
    assert repr(params) == (
        "PoolingParams(task=embed, dimensions=8, use_activation=None, step_tag_id=None, "
        "returned_token_ids=None, requires_token_ids=False, skip_reading_prefix_cache=None, "
        "late_interaction_params=None, late_chunking_params=None, extra_kwargs=None)"
    )


@pytest.mark.parametrize("name", ["normalize", "softmax"])
def test_older_names_of_use_activation(name):
    assert PoolingParams(**{name: False}).use_activation is False
    with pytest.raises(ValueError, match="older name of use_activation"):
        PoolingParams(use_activation=True, **{name: False})


def test_pooling_type_is_shorthand():
    assert PoolerConfig(pooling_type="CLS").seq_pooling_type == "CLS"
    assert PoolerConfig(pooling_type="STEP").tok_pooling_type == "STEP"
    assert as_pooler_config({"pooling_type": "CLS+MEAN"}).seq_pooling_type == "CLS+MEAN"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling_type": "CLS", "seq_pooling_type": "CLS"}, "Cannot set both `pooling_type` and"),
        ({"pooling_type": "ALL", "tok_pooling_type": "ALL"}, "`tok_pooling_type`"),
        ({"normalize": True}, "Parameter `normalize` was removed; use `use_activation` instead."),
        ({"logit_sigma": 0}, "logit_sigma cannot be 0"),
        ({"pooling_type": "SUM"}, "unknown pooling type 'SUM'"),
        ({"tok_pooling_type": "CLS"}, "unknown tok_pooling_type 'CLS'"),
        ({"poling_type": "CLS"}, "PoolerConfig has no field"),
    ],
)
def test_pooler_config_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        as_pooler_config(fields)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"chunk_size": 0}, "chunk_size must be an integer"),
        ({"chunk_size": "4"}, "chunk_size must be an integer"),
        ({"chunk_size": 2**63}, "chunk_size must be an integer"),
        ({}, "exactly one of chunk_size and char_spans"),
        ({"char_spans": [(0, 4), (3, 6)]}, "disjoint"),
        ({"char_spans": [(4, 4)]}, "not empty"),
        ({"char_spans": []}, "at least one"),
    ],
)
def test_late_chunking_refuses(params, message):
    with pytest.raises(ValueError, match=message):
        PoolingParams(late_chunking_params=params)


def test_output_kind_is_final():
    with pytest.raises(ValueError, match="output_kind has to be FINAL_ONLY"):
        PoolingParams(output_kind="DELTA")


def test_prompts_of_every_form():
    assert as_prompts("a") == ["a"]
    assert as_prompts([1, 2]) == [[1, 2]]
    mixed = ["a", [1], {"prompt": "b"}, {"prompt_token_ids": [2], "prompt": "c"}]
    assert as_prompts(mixed) == ["a", [1], "b", [2]]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([[1, "a"]], "Token prompt should be a list of integers"),
        ([{"prompt_token_ids": [True]}], "Token prompt should be a list of integers"),
        ([{"prompt": 3}], "Prompt text should be a string"),
        ([{"text": "a"}], "Prompt dictionary must contain text, tokens, or embeddings"),
        ([3.5], "Prompt should be a string, list of tokens, or dictionary"),
        (7, "Prompt should be a string, list of tokens, or dictionary"),
    ],
)
def test_prompts_of_a_wrong_type(prompt, message):
    with pytest.raises(TypeError, match=message):
        as_prompts(prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "You must pass at least one prompt"),
        ([{"data": 1}], "only supported for the 'plugin' pooling task"),
        ([{"prompt_embeds": 1}], "prompt_embeds"),
    ],
)
def test_prompts_that_cannot_be_served(prompt, message):
    with pytest.raises(ValueError, match=message):
        as_prompts(prompt)


def test_a_text_model_is_given_no_picture(bert_llm):
    with pytest.raises(ValueError, match="not a multimodal model"):
        bert_llm.embed([{"prompt": "a", "multi_modal_data": {"image": 1}}], use_tqdm=False)
