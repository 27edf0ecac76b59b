"""Adapters over HTTP: chosen by `model` on every route, in shared batches; loaded and unloaded."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch
from adapters import CLASSIFIER, adapter, probabilities
from posts import vectors
from transformers import AutoModel, AutoTokenizer

from jaxpool import LLM, LoRARequest
from serving.config import LoraModule, Options
from serving.models import modules_of

TEXTS = ["a cat sat on the mat", "the house is big and red", "trees", "what is a hash table?"]
MODULES = ["query", "intermediate.dense", "output.dense"]
LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"

# peft warns about a method of transformers that it reads.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def made(folders, tmp_path_factory):
    """The folder of each adapter, by name: of the embedder, of the cross-encoder, of a decoder."""
    root, embedder = tmp_path_factory.mktemp("adapters"), folders("mat")
    adapter(embedder, root / "first", MODULES, 4, 0, lora_alpha=8)
    adapter(embedder, root / "second", MODULES[:1], 2, 1, use_rslora=True)
    adapter(embedder, root / "third", MODULES, 4, 2)
    adapter(embedder, root / "wide", MODULES, 8, 3)
    adapter(folders("ce"), root / "scorer", MODULES, 4, 4)
    modules = ["q_proj", "v_proj", "down_proj"]
    adapter(folders("sorter"), root / "mood", modules, 4, 5, CLASSIFIER, task_type="SEQ_CLS")
    return {folder.name: str(folder) for folder in root.iterdir()}


@pytest.fixture(scope="module")
def server(start, folders, made):
    named = {"first": None, "second": "e", "scorer": "c", "mood": "s"}
    modules = [LoraModule(name=n, path=made[n], base_model_name=b) for n, b in named.items()]
    options = {"enable_lora": True, "max_lora_rank": 4, "lora_modules": modules}
    options |= {"api_key": ["k"], "allow_runtime_lora_updating": True}
    models = [folders("mat"), folders("ce"), folders("sorter")]
    server = start(models, served_model_name=["e", "c", "s"], **options)
    server.client.headers["authorization"] = "Bearer k"
    return server


def merged(base, folder) -> np.ndarray:
    """The vectors of TEXTS by torch, with the adapter merged by peft."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).merge_and_unload()
    tokens = AutoTokenizer.from_pretrained(base)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled).numpy()


class Gate:
    """Stands before the device: holds batches back while closed, notes the adapters of each."""

    def __init__(self, server, monkeypatch):
        self.queue = server.service.models.served[0].queue
        self.open, self.batches = threading.Event(), []
        monkeypatch.setattr(self.queue.engine, "start", self._start)

    def _start(self, task, requests):
        self.open.wait(30)
        self.batches.append({request.adapter for request in requests})
        return type(self.queue.engine).start(self.queue.engine, task, requests)

    def until(self, requests):
        """Wait until so many are in the queue, or on the device."""
        wait_for(lambda: self.queue.requests + self.queue.running >= requests)


def wait_for(done):
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < 30
        time.sleep(0.005)


def together(server, gate, names):
    """The vectors of TEXTS by each name, asked for at once while the device is busy."""
    gate.open.clear()
    with ThreadPoolExecutor(len(names) + 1) as threads:
        try:
            first = threads.submit(vectors, server, "a", model="e")
            wait_for(lambda: gate.queue.running)
            found = [threads.submit(vectors, server, TEXTS, model=name) for name in names]
            gate.until(1 + len(TEXTS) * len(names))
        finally:
            gate.open.set()
        first.result()
        return [one.result() for one in found]


def test_requests_of_several_adapters_share_batches(server, folders, made, monkeypatch):
    """They have the vectors of peft's merged models, and compile nothing."""
    gate = Gate(server, monkeypatch)
    together(server, gate, ["e"] * 6)
    compiled = gate.queue.engine.compilations
    names = ["e", "first", "second", "first", "second", "e"]
    gate.batches.clear()
    found = dict(zip(names, together(server, gate, names), strict=True))
    assert gate.batches == [{0}, {0, 1, 2}]
    assert gate.queue.engine.compilations == compiled
    plain = LLM(str(folders("mat"))).embed(TEXTS, use_tqdm=False)
    np.testing.assert_allclose(found["e"], [one.outputs.embedding for one in plain], atol=2e-5)
    for name in ("first", "second"):
        wanted = merged(folders("mat"), made[name])
        np.testing.assert_allclose(found[name], wanted, atol=2e-5)
        assert np.abs(wanted - found["e"]).max() > 1e-2


def test_every_route_takes_the_name_of_an_adapter(server, folders, made):
    wanted = merged(folders("mat"), made["first"])
    said = {"model": "first", "input": TEXTS}
    answer = server.post("/v1/embeddings", said).json()
    assert answer["model"] == "first"
    cohere = {"model": "first", "texts": TEXTS, "embedding_types": ["float"]}
    for got in (
        [one["embedding"] for one in answer["data"]],
        [one["data"] for one in server.post("/pooling", said).json()["data"]],
        [one["embedding"] for one in server.post("/invocations", said).json()["data"]],
        server.post("/v2/embed", cohere).json()["embeddings"]["float"],
        server.post("/api/embed", said | {"model": "first:latest"}).json()["embeddings"],
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-5)
    given = {"model": "first", "text_1": TEXTS[0], "text_2": TEXTS[1:]}
    scores = [one["score"] for one in server.post("/score", given).json()["data"]]
    np.testing.assert_allclose(scores, wanted[1:] @ wanted[0], atol=2e-5)
    assert server.post("/tokenize", {"model": "first", "prompt": "a cat"}).json()["count"] == 4
    assert server.post("/classify", said).status_code == 404  # as for the model it adapts


def test_scores_of_an_adapted_cross_encoder(server, folders, made):
    llm = LLM(str(folders("ce")), lora_path=made["scorer"])
    wanted = [one.outputs.score for one in llm.score(TEXTS[0], TEXTS[1:], use_tqdm=False)]
    asked = {"model": "scorer", "text_1": TEXTS[0], "text_2": TEXTS[1:]}
    got = [one["score"] for one in server.post("/score", asked).json()["data"]]
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    plain = server.post("/score", asked | {"model": "c"}).json()["data"]
    assert abs(plain[0]["score"] - got[0]) > 1e-3
    asked = {"model": "scorer", "query": TEXTS[0], "documents": TEXTS[1:]}
    answer = server.post("/rerank", asked).json()
    ranked = [one["relevance_score"] for one in answer["results"]]
    np.testing.assert_allclose(ranked, sorted(wanted, reverse=True), atol=2e-5)
    assert answer["model"] == "scorer"
    asked = {"model": "scorer", "query": {"text": TEXTS[0]}}
    asked |= {"passages": [{"text": text} for text in TEXTS[1:]]}
    logits = [one["logit"] for one in server.post("/v1/ranking", asked).json()["rankings"]]
    np.testing.assert_allclose(1 / (1 + np.exp(-np.array(logits))), ranked, atol=2e-5)


def test_classes_of_an_adapted_decoder(server, folders, made):
    """The adapter has a head of its own, which those that ask for the model do not meet."""
    mood = LoRARequest("mood", 1, made["mood"])
    for name, asked in (("mood", mood), ("s", None)):
        data = server.post("/classify", {"model": name, "input": TEXTS}).json()["data"]
        wanted = probabilities(folders("sorter"), asked, TEXTS)
        np.testing.assert_allclose([one["probs"] for one in data], wanted, atol=2e-5)


def test_models_are_listed_with_their_adapters(server, made):
    cards = server.client.get("/v1/models").json()["data"]
    shown = {card["id"]: (card["parent"], card["root"]) for card in cards}
    assert shown["e"][0] is None and shown["scorer"] == ("c", made["scorer"])
    assert shown["first"] == ("e", made["first"]) and shown["second"] == ("e", made["second"])
    prints = {card["id"]: card["fingerprint"] for card in cards}
    assert prints["e"] and prints["first"] is None
    tags = server.client.get("/api/tags").json()["models"]
    assert [one["name"] for one in tags] == [f"{name}:latest" for name in shown]
    metrics = server.client.get("/metrics").text
    assert 'model_name="e"' in metrics and 'model_name="first"' not in metrics


def load(server, name, path, status=200, **fields):
    response = server.post(LOAD, {"lora_name": name, "lora_path": path, **fields})
    assert response.status_code == status, response.text
    return response.text if status == 200 else response.json()["error"]


def unload(server, name, status=200):
    response = server.post(UNLOAD, {"lora_name": name})
    assert response.status_code == status, response.text
    return response.text if status == 200 else response.json()["error"]


def test_an_adapter_is_loaded_and_unloaded(server, folders, made):
    compiled = server.service.models.served[0].queue.engine.compilations
    said = load(server, "more", made["third"], base_model_name="e")
    assert said == "Success: LoRA adapter 'more' added successfully."
    wanted = merged(folders("mat"), made["third"])
    np.testing.assert_allclose(vectors(server, TEXTS, model="more"), wanted, atol=2e-5)
    assert server.service.models.served[0].queue.engine.compilations == compiled
    load(server, "fourth", made["third"])
    error = load(server, "fifth", made["third"], 400)
    assert error["message"].endswith("no room for the adapter 'fifth': max_loras=4 are loaded")
    unload(server, "fourth")
    assert unload(server, "more") == "Success: LoRA adapter 'more' removed successfully."
    asked = server.post("/v1/embeddings", {"model": "more", "input": "a"})
    assert asked.status_code == 404
    assert asked.json()["error"]["message"] == "The model `more` does not exist."


def test_what_is_refused_of_loads(server, made, tmp_path):
    for name in ("first", "e"):
        error = load(server, name, made["third"], 400)
        assert error["type"] == "InvalidUserInput"
        assert error["message"] == f"The lora adapter '{name}' has already been loaded."
    assert load(server, "", made["third"], 400)["type"] == "InvalidUserInput"
    assert load(server, "x", made["wide"], 400)["type"] == "BadRequestError"
    assert "above max_lora_rank=4" in load(server, "x", made["wide"], 400)["message"]
    # What is there and no adapter reads like what is not; URLs and Hub ids are no folders.
    for path in (
        str(tmp_path),
        str(tmp_path / "none"),
        "s3://bucket/x",
        "org/name",
        "pkg://peft/x",
    ):
        error = load(server, "x", path, 404)
        assert error["type"] == "NotFoundError"
        assert error["message"].startswith("Loading lora x failed: No adapter found for ")
    assert load(server, "x", made["third"], 404, base_model_name="z")["type"] == "NotFoundError"
    assert (
        "is an adapter" in load(server, "x", made["third"], 400, base_model_name="first")["message"]
    )
    error = unload(server, "none", 404)
    assert error["message"] == "The lora adapter 'none' cannot be found."
    assert unload(server, "", 400)["type"] == "InvalidUserInput"
    assert server.post(LOAD, {"lora_name": "x"}).json()["error"]["type"] == "Bad Request"


def test_who_may_load(server, servers, made):
    asked = {"lora_name": "x", "lora_path": made["third"]}
    for path in (LOAD, UNLOAD):
        assert httpx.post(server.url + path, json=asked).status_code == 401
        assert servers("mat").post(path, asked).status_code == 404  # it has no such route


def test_a_slot_is_kept_for_requests_that_wait(server, folders, made, monkeypatch):
    """An adapter that comes after the one of a queued request does not change its vectors."""
    load(server, "old", made["third"])
    gate = Gate(server, monkeypatch)
    adapted = server.service.models.adapters["old"]
    with ThreadPoolExecutor(2) as threads:
        try:
            waiting = threads.submit(vectors, server, TEXTS, model="old")
            gate.until(len(TEXTS))
            leaving = threads.submit(unload, server, "old")
            wait_for(lambda: adapted.slot.closed)
            late = server.post("/v1/embeddings", {"model": "old", "input": "a"})
            assert late.status_code == 404 and not leaving.done()
        finally:
            gate.open.set()
        wanted = merged(folders("mat"), made["third"])
        np.testing.assert_allclose(waiting.result(), wanted, atol=2e-5)
        assert "removed" in leaving.result()
    load(server, "old", made["first"])  # the same name and slot, another adapter
    wanted = merged(folders("mat"), made["first"])
    np.testing.assert_allclose(vectors(server, TEXTS, model="old"), wanted, atol=2e-5)
    unload(server, "old")


@pytest.mark.parametrize(
    "name, base, text", [("m", None, "the name of something else"), ("x", "z", "no model is")]
)
def test_modules_that_cannot_be(name, base, text):
    module = LoraModule(name=name, path="p", base_model_name=base)
    options = Options(models=["m"], enable_lora=True, lora_modules=[module])
    with pytest.raises(ValueError, match=text):
        modules_of(options, [["m"]])
