"""/classify of a model of spans: entities of labels that a request names."""

import pytest

from jaxpool import LLM

LABELS, TEXTS = ["person", "place of work", "animal"], ["A cat sat.", "Tokyo, in Japan"]


@pytest.mark.parametrize("options", [{}, {"threshold": 0.4, "nested": True}])
def test_entities(options, servers, folders):
    llm = LLM(str(folders("gliner")))
    wanted = llm.entities(TEXTS, labels=LABELS, use_tqdm=False, **options)
    body = {"input": TEXTS, "labels": LABELS, **options}
    answer = servers("gliner").post("/classify", body).json()
    assert sum(map(len, wanted)) > 1 and answer["usage"]["prompt_tokens"] > 20
    for index, (own, one) in enumerate(zip(wanted, answer["data"], strict=True)):
        assert one["index"] == index and len(one["entities"]) == len(own)
        for ours, theirs in zip(own, one["entities"], strict=True):
            assert theirs.pop("score") == pytest.approx(ours.score, abs=1e-5)
            assert theirs == {
                name: getattr(ours, name) for name in ("label", "start", "end", "text")
            }


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("gliner", {}, "at least one"),
        ("gliner", {"labels": LABELS, "multi_label": True}, "is a field for a classifier"),
        ("nli", {"labels": LABELS, "nested": True}, "is a field for a model of spans"),
    ],
)
def test_refusals(name, fields, message, servers):
    response = servers(name).post("/classify", {"input": "a cat", **fields})
    assert response.status_code == 400 and message in response.json()["error"]["message"]
