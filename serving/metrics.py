"""Prometheus metrics: vLLM's names where it has one, and our own.

Gauges read the live objects when they are scraped; the rest is counted as it happens.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily

disable_created_metrics()
LATENCY = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5),
    *(10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680),
)
TOKENS = tuple(2**n for n in range(18))
SIZES = tuple(2**n for n in range(13))
SHARES = tuple(n / 10 for n in range(1, 11))
LABELS = ("model_name", "engine")


class Metrics:
    """The metrics of a process; `models` is called at each scrape for what is loaded then.

    A metric is a function of the values of its labels. engine: the label of the devices' own.
    """

    def __init__(self, models: Callable[[], Sequence], engine: str = "0"):
        self.engine = engine
        self.live = Live(models, engine)
        self.registry = _registry(self.live)
        self.requests = self._counter("http_requests", "Requests", "handler", "method", "status")
        self.latency = self._histogram(
            "http_request_duration_seconds", "Whole requests", LATENCY, "handler", "method"
        )
        self.success = self._counter(
            "vllm:request_success", "Jobs by how they ended", *LABELS, "finished_reason"
        )
        kinds = ("model_name", "reason")
        self.rejections = self._counter("vllm:admission_rejections", "Jobs refused", *kinds)
        self.truncated = self._counter("jaxpool:truncated_texts", "Texts cut", "model_name")
        self.prompt_tokens = self._counter("vllm:prompt_tokens", "Tokens computed", *LABELS)
        self.job_tokens = self._histogram(
            "vllm:request_prompt_tokens", "Tokens a job", TOKENS, *LABELS
        )
        self.e2e = self._histogram(
            "vllm:e2e_request_latency_seconds", "Arrival to result", LATENCY, *LABELS
        )
        self.queued = self._histogram(
            "vllm:request_queue_time_seconds", "Arrival to device", LATENCY, *LABELS
        )
        self.inference = self._histogram(
            "vllm:request_inference_time_seconds", "Device to result", LATENCY, *LABELS
        )
        self.tokenizing = self._histogram(
            "jaxpool:tokenize_seconds", "Body to token ids", LATENCY, "model_name"
        )
        self.batch_tokens = self._histogram(
            "vllm:iteration_tokens_total", "Tokens a batch", TOKENS, *LABELS
        )
        self.batch_size = self._histogram(
            "jaxpool:batch_requests", "Requests a batch", SIZES, "model_name"
        )
        self.batch_share = self._histogram(
            "jaxpool:batch_real_share", "Real of computed tokens", SHARES, "model_name"
        )

    # `labels` of a metric takes longer than counting does: what it finds is kept.
    def _counter(self, name: str, text: str, *labels: str) -> Callable[..., Counter]:
        return cache(Counter(name, text, labels, registry=self.registry).labels)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Callable:
        return cache(Histogram(name, text, labels, buckets=buckets, registry=self.registry).labels)

    def batch(self, name: str, parts: list, computed: int) -> None:
        """Record one batch of `parts` of jobs that took `computed` tokens with its padding."""
        real = sum(part.tokens for part in parts)
        self.batch_tokens(name, self.engine).observe(real)
        self.batch_size(name).observe(sum(map(len, parts)))
        self.batch_share(name).observe(min(1.0, real / max(computed, 1)))
        self.prompt_tokens(name, self.engine).inc(real)

    def job(self, name: str, job: Any) -> None:
        """Record one finished job."""
        labels = name, job.engine
        self.success(*labels, "stop").inc()
        self.job_tokens(*labels).observe(job.tokens)
        truncated = self.truncated(name)
        if job.truncated:
            truncated.inc(job.truncated)
        self.e2e(*labels).observe(job.times.whole)
        self.queued(*labels).observe(job.times.queued)
        self.inference(*labels).observe(job.times.computing)

    def text(self) -> bytes:
        """The exposition of all metrics."""
        return generate_latest(self.registry)


def _registry(live: "Live") -> CollectorRegistry:
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    made.register(live)
    return made


class Live:
    """Gauges of the queues, the compiled programs and the devices."""

    def __init__(self, models: Callable[[], Sequence], engine: str):
        self.models, self.engine = models, engine

    def describe(self):
        """Nothing is known before a model is loaded."""
        return []

    def collect(self):
        """The present values."""
        running = _gauge("vllm:num_requests_running", "Requests on the device")
        waiting = _gauge("vllm:num_requests_waiting", "Requests in the queue")
        tokens = _gauge("jaxpool:queued_tokens", "Tokens in the queue")
        rate = _gauge("jaxpool:tokens_per_second", "Measured speed of the device")
        compiled = _gauge("jaxpool:compilations", "Programs compiled")
        for model in self.models():
            queue, labels = model.queue, (model.name, self.engine)
            running.add_metric(labels, queue.running)
            waiting.add_metric(labels, queue.requests)
            tokens.add_metric(labels, queue.tokens)
            rate.add_metric(labels, queue.rate)
            compiled.add_metric(labels, queue.engine.compilations)
        yield from (running, waiting, tokens, rate, compiled, _memory(self.engine))


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=LABELS)


def _memory(engine: str) -> GaugeMetricFamily:
    """Bytes in use on each device; on CPU the process's own."""
    gauge = GaugeMetricFamily("jaxpool:device_memory_bytes", "In use", labels=["device", "engine"])
    jax = sys.modules.get("jax")
    for device in jax.local_devices() if jax else ():
        stats = device.memory_stats() or {}
        gauge.add_metric([str(device), engine], stats.get("bytes_in_use", _resident()))
    return gauge


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
