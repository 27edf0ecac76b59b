"""The page at /: its files, what it asks beside the other routes, and its tabs in a browser."""

import re
import shutil

import httpx
import numpy as np
import pytest
from images.photos import encoded, photo

from serving.routes.page import FILES

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_the_page_is_whole_and_asks_nobody_else(servers):
    client = servers("cls").client
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    texts = [page.text]
    for name in FILES:
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 200
        texts.append(answer.text)
    addresses = set(re.findall(r"https?://[^\s\"'`$]+", "".join(texts)))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches
    for link in re.findall(r'(?:src|href)="(page/[^"]+)"', page.text):
        assert link.removeprefix("page/") in FILES


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e%2fapp.py"])
def test_other_files_are_not_served(servers, name):
    assert servers("cls").client.get(f"/page/{name}").status_code == 404


def test_models_say_what_they_can_do(servers):
    (cls,) = servers("cls").client.get("/page/models").json()
    assert cls["labels"] == {"0": "negative", "1": "neutral", "2": "positive"}
    assert "classify" in cls["tasks"] and cls["scores"] is None and not cls["takes_labels"]
    assert cls["texts"] and not cls["images"]
    (colbert,) = servers("colbert").client.get("/page/models").json()
    assert colbert["scores"] == "token_embed"


def test_without_the_page(start, folders):
    client = start([folders("cls")], ui=False).client
    assert client.get("/").status_code == 405
    assert client.get("/page/models").status_code == 404


def test_the_files_need_no_key_but_the_models_do(servers):
    url = servers("auth").url
    assert httpx.get(url + "/").status_code == 200
    assert httpx.get(url + "/page/page.js").status_code == 200
    assert httpx.get(url + "/page/models").status_code == 401
    assert httpx.post(url + "/", json={"inputs": "a cat"}).status_code == 401
    assert httpx.post(url + "/page/tokens", json={"input": "a cat"}).status_code == 401


@pytest.mark.parametrize("side", ["query", "document"])
def test_tokens_are_those_of_the_rows(servers, side):
    server, text = servers("marked"), "The larynx, it vibrates!"
    body = {"input": text, "task": "token_embed", "input_type": side}
    rows = np.array(server.post("/pooling", body).json()["data"][0]["data"])
    shown = server.post("/page/tokens", body).json()
    assert len(shown["tokens"]) == len(shown["offsets"]) == len(rows)
    assert ("," in shown["tokens"]) == (side == "query")


def test_offsets_are_characters(servers):
    body = {"input": "Ünal lives in Berlin.", "task": "token_classify"}
    shown = servers("tok").post("/page/tokens", body).json()
    places = dict(zip(shown["tokens"], shown["offsets"], strict=True))
    assert places["berlin"] == [14, 20]
    assert places["[CLS]"] == [0, 0]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, which the slow tests need installed (`apt install chromium`)."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


TABS = [
    ("minilm", "Similarity", "rect", 16),
    ("clip", "Similarity", "rect", 36),  # two pictures beside the texts
    ("clip", "Rerank", "rect", 5),
    ("vit", "Classes", "rect", 6),
    ("cls", "Classes", "rect", 6),
    ("nli", "Labels", "rect", 6),
    ("gliner", "Entities", "mark", None),
    ("decider", "Decisions", "rect", 3),
    ("tok", "Spans", "mark", None),
    ("values", "Rewards", "rect", None),
    ("splade", "Words", "rect", None),
    ("ce", "Rerank", "rect", 3),
    ("minilm", "Rerank", "rect", 3),
    ("colbert", "Matches", "mark", None),
    ("marked", "Matches", "mark", None),
    ("pages", "Matches", ".picture mark", None),
]


def photos(folder):
    """Two files of pictures."""
    paths = [folder / "cat.png", folder / "dog.png"]
    for path, size in zip(paths, ((60, 70), (90, 20)), strict=True):
        path.write_bytes(encoded(photo(*size), "PNG"))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("kind, tab, shape, count", TABS)
def test_a_tab_shows_what_the_server_answers(servers, browser, tmp_path, kind, tab, shape, count):
    page, faults = browser.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(servers(kind).url)
    page.get_by_role("tab", name=tab).click()
    if tab == "Entities":  # of a random model
        page.locator("input[name=threshold]").fill("0.1")
    if page.locator("input[name=images]").count():
        several = 1 if tab == "Matches" else 2
        page.locator("input[name=images]").set_input_files(photos(tmp_path)[:several])
    page.get_by_role("button", name="Run").click()
    page.locator(f"#result {shape}").first.wait_for()
    shapes = page.locator(f"#result {shape}").count()
    assert shapes == count if count else shapes > 3
    assert "curl http" in page.locator("#curl").text_content()
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 10_000
    assert not faults
    page.close()


@pytest.mark.slow
def test_a_refusal_is_shown(servers, browser):
    page = browser.new_page()
    page.goto(servers("ce").url)
    page.get_by_role("tab", name="Rerank").click()
    page.locator("textarea[name=texts]").fill("word " * 5000)
    page.get_by_role("button", name="Run").click()
    page.locator("#result .error").wait_for()
    assert "maximum context length" in page.locator("#result .error").text_content()
    page.close()
