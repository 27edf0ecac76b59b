"""Hard negatives of texts against sentence-transformers, row for row."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from sentence_transformers import util

from jaxpool.search import mine_hard_negatives
from tests.search.fixed import Fixed

COUNT = 60
RNG = np.random.default_rng(3)
CENTRES = RNG.normal(size=(10, 16))
VECTORS = CENTRES[RNG.integers(0, 10, 3 * COUNT)] + RNG.normal(scale=0.3, size=(3 * COUNT, 16))
VECTORS[COUNT : 2 * COUNT] = VECTORS[:COUNT] + 0.2 * VECTORS[COUNT : 2 * COUNT]
VECTORS = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float32)
QUERIES, DOCUMENTS, MORE = ([f"{kind}{i}" for i in range(COUNT)] for kind in "qdx")
TABLE = dict(zip([*QUERIES, *DOCUMENTS, *MORE], VECTORS, strict=True))
# Some queries have two answers, and some answers two queries.
PAIRS = {
    "query": [*QUERIES, *QUERIES[:9]],
    "answer": [*DOCUMENTS, *DOCUMENTS[1:10]],
}


@pytest.mark.parametrize("output_format", ["triplet", "n-tuple", "labeled-pair", "labeled-list"])
@pytest.mark.parametrize("output_scores", [False, True])
@pytest.mark.parametrize(
    "rules",
    [
        {"relative_margin": 0.05, "max_score": 0.9},
        {"absolute_margin": 0.1, "corpus": MORE, "range_min": 1, "num_negatives": 2},
        {"absolute_margin": 0.0, "cross_encoder": Fixed(TABLE), "range_max": 20},
    ],
)
def test_rows_are_those_of_sentence_transformers(output_format, output_scores, rules):
    pairs, options = Dataset.from_dict(PAIRS), {"verbose": False, "batch_size": 8, **rules}
    options |= {"output_format": output_format, "output_scores": output_scores}
    wanted = util.mine_hard_negatives(pairs, Fixed(TABLE), **options)
    found = mine_hard_negatives(pairs, Fixed(TABLE), **options)
    assert isinstance(found, Dataset) and found.column_names == wanted.column_names
    assert len(found) == len(wanted) > 20
    for name in found.column_names:
        if "score" not in name:
            assert found[name] == wanted[name]
            continue
        for a, b in zip(found[name], wanted[name], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_positives_may_stay_among_the_candidates():
    pairs, options = Dataset.from_dict(PAIRS), {"include_positives": True, "num_negatives": 8}
    wanted = util.mine_hard_negatives(pairs, Fixed(TABLE), verbose=False, **options)
    assert mine_hard_negatives(pairs, Fixed(TABLE), **options).to_list() == wanted.to_list()


def test_a_corpus_smaller_than_what_is_asked_of_it():
    pairs = {"query": QUERIES[:3], "answer": DOCUMENTS[:3]}
    for output_format, rows in (("triplet", 6), ("n-tuple", 0), ("labeled-pair", 9)):
        options = {"num_negatives": 4, "output_format": output_format}
        wanted = util.mine_hard_negatives(
            Dataset.from_dict(pairs), Fixed(TABLE), verbose=False, **options
        )
        found = mine_hard_negatives(pairs, Fixed(TABLE), **options)
        assert len(wanted) == rows and (found or not rows)
        for name in found:
            assert found[name] == list(wanted[name])


def test_the_result_has_the_form_of_the_pairs():
    wanted = mine_hard_negatives(Dataset.from_dict(PAIRS), Fixed(TABLE)).to_list()
    table = pa.table(PAIRS)
    assert mine_hard_negatives(table, Fixed(TABLE)) == pa.Table.from_pylist(wanted)
    assert mine_hard_negatives(table.to_pylist(), Fixed(TABLE)) == wanted
    columns = mine_hard_negatives(
        {"id": [0] * len(table), **PAIRS}, Fixed(TABLE), "query", "answer"
    )
    assert columns["negative"] == [row["negative"] for row in wanted]


def test_prompts_reach_the_model():
    model = Fixed(TABLE)
    mine_hard_negatives(PAIRS, model, query_prompt_name="query", corpus_prompt="passage: ")
    assert model.asked == [
        {"prompt_name": "query", "prompt": None},
        {"prompt_name": None, "prompt": "passage: "},
    ]


@pytest.mark.parametrize(
    "pairs,options,message",
    [
        (PAIRS, {"anchor_column_name": "body"}, "no column 'body'; columns: .*'query', 'answer'"),
        (PAIRS, {"output_format": "pairs"}, "output_format must be one of .*'triplet'"),
        ({"query": []}, {}, "pairs have two columns"),
        ([], {}, "there are no pairs"),
        (PAIRS, {"num_negatives": 0}, "num_negatives must be at least 1"),
    ],
)
def test_bad_arguments_are_named(pairs, options, message):
    with pytest.raises(ValueError, match=message):
        mine_hard_negatives(pairs, Fixed(TABLE), **options)
