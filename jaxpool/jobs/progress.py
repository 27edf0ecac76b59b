"""Heartbeat lines: how far a job is, how fast, and how long it will take."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

RENEW = 20  # seconds between renewals of claims


class Progress:
    """What a process has done of its parts; shared by its threads."""

    def __init__(self, files: list, engine: Callable):
        self.sizes = {file.path: max(file.size, 1) for file in files}
        self.shares = dict.fromkeys(self.sizes, 0.0)
        self.rows = self.tokens = self.parts = self.failed = 0
        self.engine, self.begun, self.before = engine, time.monotonic(), 0.0

    @property
    def share(self) -> float:
        """The share of the bytes that is done, by this process or before."""
        total = sum(self.sizes.values())
        return sum(self.sizes[path] * done for path, done in self.shares.items()) / max(total, 1)

    def already(self, path: str, share: float = 1.0) -> None:
        """Count what was there when the process came to it."""
        self.before += self.sizes[path] * (share - self.shares[path]) / sum(self.sizes.values())
        self.shares[path] = share

    def count(self, path: str, share: float, rows: int, tokens: int, failed: int) -> None:
        """Count a chunk."""
        self.shares[path] = min(share, 1.0)
        self.rows, self.tokens = self.rows + rows, self.tokens + tokens
        self.failed += failed

    def line(self) -> str:
        """One line of it all."""
        seconds = max(time.monotonic() - self.begun, 1e-9)
        engine = self.engine()
        ratio = engine.real_tokens / engine.computed_tokens if engine.computed_tokens else 1.0
        parts = [
            f"{self.share:.1%} of {len(self.sizes)} files",
            f"{self.parts} parts written",
            f"{self.rows:,} rows",
            f"{self.rows / seconds:,.0f} rows/s",
            f"{self.tokens / seconds:,.0f} tokens/s",
            f"real/computed {ratio:.3f}",
        ]
        if self.failed:
            parts.append(f"{self.failed:,} rows without a result")
        done = self.share - self.before
        if done > 1e-6 and self.share < 1:  # less is what rounding leaves
            parts.append(f"{_clock(seconds * (1 - self.share) / done)} left")
        return ", ".join(parts)


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


@contextmanager
def heartbeat(progress: Progress, seconds: float, renew: Callable[[], None]):
    """Print a line every so many seconds (0: none), and renew claims, until the end."""
    stop = threading.Event()

    def beat() -> None:
        pause = min(seconds or RENEW, RENEW)
        spoken = renewed = time.monotonic()
        while not stop.wait(pause):
            now = time.monotonic()
            if now - renewed >= RENEW:
                renew()
                renewed = now
            if seconds and now - spoken >= seconds:
                print(progress.line(), file=sys.stderr, flush=True)
                spoken = now

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
