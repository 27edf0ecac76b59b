"""/v1/systemone: typed decisions over HTTP are those offline."""

import pytest

from jaxpool import LLM


def post(server, status=200, **body):
    response = server.post("/v1/systemone", body)
    assert response.status_code == status, response.text
    return response.json()


BODY = {
    "state": {"message": "Buy it now!"},
    "questions": {
        "spam": {"type": "noul", "instructions": "Is it spam?"},
        "tone": {"type": "choice", "criteria": {"calm": None, "pushy": "presses"}},
    },
}


def test_answers_are_those_offline(servers, folders):
    answer = post(servers("decider"), **BODY)
    wanted = LLM(str(folders("decider")), convert="decide").decide(BODY, use_tqdm=False)
    assert answer["answers"]["spam"] == pytest.approx(wanted["spam"], abs=1e-5)
    ours, theirs = (found["tone"].pop("probabilities") for found in (answer["answers"], wanted))
    assert ours == pytest.approx(theirs, abs=1e-5) and abs(sum(ours.values()) - 1) < 1e-5
    assert answer["answers"]["tone"]["choice"] == wanted["tone"]["choice"]
    assert answer["usage"]["output_tokens"] == 0 < answer["usage"]["input_tokens"]


def test_refusals(servers):
    for fields, text in (
        ({"questions": {"a": {"type": "?"}}}, "must be one of noul, choice, score"),
        ({"temperature": 2}, "Extra inputs are not permitted"),
        ({"assets": {"img": {"data_base64": ""}}}, "images need a model"),
    ):
        assert text in post(servers("decider"), 400, **BODY | fields)["error"]["message"]
    post(servers("minilm"), 404, **BODY)
