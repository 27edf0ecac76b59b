"""Near duplicates, communities, k-means and hard negatives against plain loops and peers."""

import numpy as np
import pytest

from jaxpool.search import clusters, community_detection, deduplicate, hard_negatives, kmeans
from tests.search.fixed import Fixed

RNG = np.random.default_rng(1)
CENTRES = RNG.normal(size=(20, 16))
LABELS = RNG.integers(0, 20, 700)
ROWS = (CENTRES[LABELS] + RNG.normal(scale=0.25, size=(700, 16))).astype(np.float32)
UNIT = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    """Small blocks, so that there are several."""
    monkeypatch.setattr(clusters, "ROWS", 256)
    monkeypatch.setattr(clusters, "ASSIGNED", 256)


@pytest.mark.parametrize("threshold", [0.7, 0.95, 0.99])
def test_deduplicate_keeps_the_first_of_each(threshold):
    cosines, kept = UNIT @ UNIT.T, []
    for i in range(len(ROWS)):
        if not any(cosines[i, j] >= threshold for j in kept):
            kept.append(i)
    np.testing.assert_array_equal(deduplicate(ROWS, threshold), kept)
    assert 20 <= len(kept) <= 700


@pytest.mark.parametrize("threshold", [0.75, 0.9])
def test_communities_are_those_of_sentence_transformers(threshold):
    from sentence_transformers import util

    wanted = util.community_detection(ROWS, threshold=threshold, min_community_size=5)
    found = community_detection(ROWS, threshold, 5)
    assert [set(group) for group in found] == [set(group) for group in wanted]
    assert [group[0] for group in found] == [group[0] for group in wanted] and len(found) > 5


def test_kmeans_is_lloyds():
    from sklearn.cluster import KMeans

    start = ROWS[:20]
    options = {"n_clusters": 20, "init": start, "n_init": 1, "algorithm": "lloyd"}
    wanted = KMeans(**options, max_iter=100, tol=0).fit(ROWS)
    centroids, labels = kmeans(ROWS, 20, iterations=100, tolerance=0, start=start)
    np.testing.assert_allclose(centroids, wanted.cluster_centers_, atol=1e-4)
    np.testing.assert_array_equal(labels, wanted.labels_)
    with pytest.raises(ValueError, match="clusters must be from 1"):
        kmeans(ROWS, 0)


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"range_min": 2, "num_negatives": 5},
        {"absolute_margin": 0.1},
        {"relative_margin": 0.05, "max_score": 0.8},
        {"min_score": 0.5, "range_max": 20},
        {"max_score": 0.6, "rerank": True},
    ],
)
def test_hard_negatives_are_those_of_sentence_transformers(rules):
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    count = 60
    texts = [f"q{i}" for i in range(count)] + [f"d{i}" for i in range(count)]
    vectors = np.concatenate([UNIT[:count], UNIT[:count] + 0.1 * UNIT[count : 2 * count]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = dict(zip(texts, vectors, strict=True))
    pairs = Dataset.from_dict({"query": texts[:count], "answer": texts[count:]})
    rules = dict(rules)
    model, again = Fixed(table), rules.pop("rerank", False)
    options = {"output_format": "triplet", "output_scores": False, "verbose": False}
    made = mine_hard_negatives(
        pairs, model, cross_encoder=model if again else None, **rules, **options
    )
    wanted = {(row["query"], row["negative"]) for row in made}

    def rerank(query, rows):
        return model.predict([(texts[query], texts[count + row]) for row in rows]).numpy()

    positives = [[i] for i in range(count)]
    found = hard_negatives(
        vectors[:count], vectors[count:], positives, rerank=rerank if again else None, **rules
    )
    pairs = {(f"q{q}", f"d{d}") for q, row in enumerate(found.indices) for d in row if d >= 0}
    assert pairs == wanted and len(wanted) > 20


def test_random_negatives_obey_the_rules():
    positives = [[i] for i in range(50)]
    options = {"max_score": 0.9, "num_negatives": 4, "sampling_strategy": "random"}
    one, two = (hard_negatives(UNIT[:50], UNIT, positives, seed=s, **options) for s in (0, 1))
    assert (one.scores[np.isfinite(one.scores)] <= 0.9).all()
    assert not (one.indices == np.arange(50)[:, None]).any()
    assert (one.indices != two.indices).any()
    with pytest.raises(ValueError, match="num_negatives must be at least 1"):
        hard_negatives(UNIT[:50], UNIT, positives, num_negatives=0)
