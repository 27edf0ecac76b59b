"""What the host does for a text, and what it could feed: the device costs nothing here.

    python benchmarks/host.py ceiling [--count 2000] [--output FILE.json]
    python benchmarks/host.py rates [--seconds 4] [--output FILE.json]
    python benchmarks/host.py workers [--seconds 4] [--most 2] [--output FILE.json]

`ceiling` times each step from a line of JSON to the body of an answer, in processor time, for texts
of 32 and 512 tokens by one tokenizer, and says what accelerator one core keeps busy. `rates` asks a
server with a model of 2 layers and 32 features, beside a bare FastAPI route that parses and answers
JSON, and the offline API with the same model. `workers` asks the same server with one process, and
with more. They need `wrk` (`apt install wrk`).
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import measure
import numpy as np
import orjson
import servers
import toy
import typer

import jaxpool
from jaxpool.engine import batch as batching
from jaxpool.engine import planner
from jaxpool.engine.bucketing import BUCKETING
from jaxpool.text.prepare import prepare

LENGTHS = (32, 512)
CLIENTS = 64
SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [==[{}]==]
"""
CHIPS = {"v5e": 197, "v6e": 918, "H100": 989}  # dense bfloat16 TFLOP/s by their makers

Output = Annotated[Path | None, typer.Option(help="a file of JSON")]
app = typer.Typer(add_completion=False, help=__doc__)


class Shape(NamedTuple):
    """A model as the host sees it, and the work of its layers."""

    features: int
    layers: int
    weights: float  # in the layers
    heads: int  # features of all of its query heads
    causal: bool

    def flops(self, tokens: int) -> float:
        """Operations on a text: 2 a weight and token, and the two products of attention."""
        attention = 4 * self.layers * self.heads * tokens**2 / (2 if self.causal else 1)
        return 2 * self.weights * tokens + attention


SHAPES = {
    "MiniLM": Shape(384, 6, 10.6e6, 384, False),
    "BGE-base": Shape(768, 12, 84.9e6, 768, False),
    "Qwen3-0.6B": Shape(1024, 28, 440.4e6, 2048, True),
}


def texts_of(tokenizer, count: int, length: int) -> list[str]:
    """`count` pieces of the docstrings of installed packages, of `length` tokens each."""
    whole = " ".join(" ".join(measure.docstrings()).split())
    offsets = tokenizer([whole], special_tokens=False, offsets=True)[0].offsets
    size = length - sum(map(len, tokenizer.affixes))
    starts = np.random.default_rng(0).integers(0, len(offsets) - size, count)
    return [whole[offsets[i][0] : offsets[i + size - 1][1]] for i in starts]


def core_time(run: Callable[[], Any], count: int, rounds: int = 3) -> tuple[float, Any]:
    """Microseconds of processor time for each of `count` texts, the best of some rounds."""
    best = np.inf
    for _ in range(rounds):
        begun = time.process_time()
        found = run()
        best = min(best, time.process_time() - begun)
    return best / count * 1e6, found


class Encoded:
    """A tokenizer that has done its work before it is asked."""

    def __init__(self, fast, encodings: dict):
        self.fast, self.encodings = fast, encodings

    def __getattr__(self, name: str):
        return getattr(self.fast, name)

    def encode_batch_fast(self, texts: list[str], add_special_tokens: bool) -> list:
        """What was found for some texts."""
        return [self.encodings[text] for text in texts]


def steps(model, texts: list[str], features: int) -> dict[str, float]:
    """Microseconds a text of each step, with the batches of a TPU and no device."""
    task, count = model.task("embed"), len(texts)
    how, limit = BUCKETING["tpu"], max(LENGTHS)
    shape = (planner.bucket_lengths(limit, how.steps), how.tokens)
    options = {"truncate_prompt_tokens": limit}
    lines = [orjson.dumps({"text": text}) for text in texts]
    took: dict[str, float] = {}
    took["read"], texts = core_time(lambda: [orjson.loads(line)["text"] for line in lines], count)
    fast = model.tokenizer.fast
    took["tokenize"], encoded = core_time(lambda: fast.encode_batch_fast(texts), count)
    model.tokenizer.fast = Encoded(fast, dict(zip(texts, encoded, strict=True)))
    took["prepare"], requests = core_time(lambda: prepare(model, task, texts, None, options), count)
    model.tokenizer.fast = fast
    lengths = [len(request.ids) for request in requests]
    took["plan"], plans = core_time(lambda: planner.plan(lengths, *shape), count)
    took["fill"], _ = core_time(lambda: [batching.fill(p, requests) for p in plans], count)
    outputs = [_output(p, features) for p in plans]

    def fetch() -> list:
        return [
            requests[i].finish(vector)
            for p, output in zip(plans, outputs, strict=True)
            for i, vector in batching.unpack(p, output, requests, pooled=True)
        ]

    took["fetch"], vectors = core_time(fetch, count)
    took["encode"], _ = core_time(lambda: _answers(vectors), count)
    return took


def _output(plan, features: int) -> np.ndarray:
    """What a device would give for a batch."""
    places = (plan.rows, batching.segments_of(plan.length))
    return np.random.default_rng(0).normal(size=(*places, features)).astype(np.float32)


def _answers(vectors: list, size: int = 16) -> list[bytes]:
    """Bodies of `size` vectors each in base64, as /v1/embeddings answers."""
    return [
        orjson.dumps([{"embedding": b64encode(v).decode()} for v in vectors[i : i + size]])
        for i in range(0, len(vectors), size)
    ]


@app.command()
def ceiling(count: int = 2000, output: Output = None) -> None:
    """Print the steps of a text, what a core reaches, and the accelerator that this feeds."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        loaded = jaxpool.load(toy.make(Path(made)))
    for length in LENGTHS:
        texts = texts_of(loaded.tokenizer, max(count * LENGTHS[0] // length, 64), length)
        for name, shape in SHAPES.items():
            took = steps(loaded, texts, shape.features)
            rate = 1e6 / sum(took.values())
            fed = rate * shape.flops(length) / 1e12
            row = {"model": name, "tokens": length} | {k: round(v, 1) for k, v in took.items()}
            row |= {"texts/s a core": round(rate), "TFLOP/s fed": round(fed, 2)}
            half = {f"cores a {chip}": round(peak / 2 / fed, 1) for chip, peak in CHIPS.items()}
            rows.append(row | half)
    facts = measure.machine() | {"tokenizer": toy.TOKENIZER}
    facts |= {"steps": "microseconds of a core a text"}
    facts |= {"cores a chip": "to keep it at half of its peak", "chips": CHIPS}
    measure.report(facts, rows, output)


def bare():
    """An application that parses JSON and answers it: what the host layers below ours can do."""
    from fastapi import FastAPI, Request, Response

    made = FastAPI()

    @made.post("/v1/embeddings")
    async def answer(request: Request) -> Response:
        body = orjson.loads(await request.body())
        return Response(orjson.dumps({"data": body["input"]}), media_type="application/json")

    made.get("/health")(lambda: {})
    return made


def asked(port: int, path: str, texts: int, seconds: float) -> float:
    """Requests/s of `CLIENTS` connections; a POST of some texts, or a GET of none."""
    command = ["wrk", "-t1", f"-c{CLIENTS}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if texts:
            given = toy.texts(texts) if texts > 1 else toy.TEXT
            script.write(SCRIPT.format(json.dumps({"input": given, "encoding_format": "base64"})))
            script.flush()
            command += ["-s", script.name]
        url = f"http://127.0.0.1:{port}{path}"
        for span in (1, seconds):
            done = subprocess.run(
                [*command, f"-d{span:g}", url], check=True, capture_output=True, text=True
            )
    if "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


def cases(ours: int, plain: int, seconds: float) -> Iterator[dict]:
    """The rates of both servers, the bare route's before and after."""
    path = "/v1/embeddings"
    before = asked(plain, path, 1, seconds)
    kinds = {"GET /version": ("/version", 0), "one text": (path, 1), "16 texts": (path, 16)}
    found = {name: asked(ours, *kind, seconds) for name, kind in kinds.items()}
    base = (before + asked(plain, path, 1, seconds)) / 2
    for name, rate in {"bare route": base, **found}.items():
        of_bare, count = round(rate / base, 2), max(kinds.get(name, ("", 1))[1], 1)
        yield {"case": name, "requests/s": round(rate), "texts/s": round(rate * count)} | {
            "of bare": of_bare
        }


@app.command()
def rates(seconds: float = 4, count: int = 20000, output: Output = None) -> None:
    """Print requests/s and texts/s of the server and offline, beside the bare route's."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt install wrk")
    command = [sys.executable, "-m", "uvicorn", "--factory", "host:bare", "--app-dir"]
    command += [str(Path(__file__).parent), "--no-access-log", "--log-level", "error"]
    with tempfile.TemporaryDirectory() as made:
        folder = toy.make(Path(made))
        ours = servers.jaxpool(folder, "float32")
        with servers.running(ours) as server, servers.running(command) as plain:
            servers.settle(server.port)
            rows = list(cases(server.port, plain.port, seconds))
        # A process of its own has no torch, whose objects the collector would walk through.
        command = [sys.executable, toy.__file__, folder, str(count)]
        found = orjson.loads(subprocess.check_output(command))
    facts = {"clients": CLIENTS, "us a text of the model itself": found.pop("model")}
    rows.append({"case": "offline", "requests/s": "", "of bare": ""} | found)
    measure.report(measure.machine() | facts, rows, output)


@app.command()
def workers(seconds: float = 4, most: int = 2, output: Output = None) -> None:
    """Print rates, processor time a request by kind of process, and the rate that allows."""
    rows = []
    with tempfile.TemporaryDirectory() as made:
        command = servers.jaxpool(toy.make(Path(made)), "float32")
        for count in range(1, most + 1):
            with servers.running([*command, "--api-workers", str(count)]) as server:
                servers.settle(server.port)
                for texts in (1, 16):
                    rows.append(_spent(server.port, count, texts, seconds))
    measure.report(measure.machine() | {"clients": CLIENTS}, rows, output)


def _spent(port: int, count: int, texts: int, seconds: float) -> dict:
    """A rate, and the processor time of a request in each kind of process."""
    served = "vllm:e2e_request_latency_seconds_count"
    spent_by = "process_cpu_seconds_total"
    kinds = {"worker": spent_by + '{process="w', "device": spent_by + '{process="r'}
    kinds = kinds if count > 1 else {"worker": spent_by, "device": spent_by}  # it is both
    names = kinds.values()
    before = [servers.metric(port, name) for name in (served, *names)]
    rate = asked(port, "/v1/embeddings", texts, seconds)
    after = [servers.metric(port, name) for name in (served, *names)]
    done, *spent = (b - a for a, b in zip(before, after, strict=True))
    row = {"processes": count, "texts": texts, "requests/s": round(rate)}
    each = {name: took / done * 1e6 for name, took in zip(kinds, spent, strict=True)}
    most = 1e6 / max(each["worker"] / count, each["device"])
    row |= {f"us in {name}": round(took) for name, took in each.items()}
    return row | {"with a core each": round(most)}


if __name__ == "__main__":
    app()
