"""The server under load: latency and throughput beside another server's, and a soak.

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
import urllib.request

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


def load(ports: list[int], seconds: float) -> None:
    """Every case on every port in turn, twice; the better half of each counts."""
    for port in ports:
        measure(port, 8, 1, seconds / 2, 0)  # warm
    print("| case | port | p50 ms | p99 ms | texts/s |\n|---|---|---|---|---|")
    for clients, texts in CASES:
        found = collections.defaultdict(list)
        for seed, port in itertools.product((1, 2), ports):
            found[port].append(measure(port, clients, texts, seconds / 2, seed))
        report(f"{clients} x {texts}", found)
    report("bursts of 256", {port: [burst(port, 3)] for port in ports})


def report(case: str, found: dict[int, list[dict]]) -> None:
    """One line a port."""
    for port, runs in found.items():
        best = max(runs, key=lambda run: run["rate"])
        print(f"| {case} | {port} | {best['p50']:.1f} | {best['p99']:.1f} | {best['rate']:.0f} |")


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


def metric(port: int, name: str) -> float:
    """The sum of a metric's samples."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def soak(port: int, minutes: float) -> None:
    """Mixed load of 64 clients: errors, memory and compilations from the first tenth to the end."""
    statuses: collections.Counter = collections.Counter()

    def run(seconds: float, seed: int) -> None:
        end = time.perf_counter() + seconds
        requests = until(mixed(seed), end)
        collect = lambda answer: statuses.update([answer.status])  # noqa: E731
        asyncio.run(closed_loop(port, SOAK_CLIENTS, requests, collect))

    run(minutes * 6, 1)
    names = ("process_resident_memory_bytes", "jaxpool:compilations")
    before = [metric(port, name) for name in names]
    run(minutes * 54, 2)
    after = [metric(port, name) for name in names]
    print(
        json.dumps(
            {
                "minutes": minutes,
                "statuses": dict(statuses),
                "memory_growth": round(after[0] / before[0] - 1, 4),
                "compilations": after[1] - before[1],
            }
        )
    )


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    loads = commands.add_parser("load")
    loads.add_argument("ports", type=int, nargs="+")
    loads.add_argument("--seconds", type=float, default=SECONDS, help="of each case on each port")
    soaks = commands.add_parser("soak")
    soaks.add_argument("port", type=int)
    soaks.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    if arguments.command == "load":
        load(arguments.ports, arguments.seconds)
    else:
        soak(arguments.port, arguments.minutes)


if __name__ == "__main__":
    main()
