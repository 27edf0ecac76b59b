"""Prompts by a chat template, rendered in processes that are ended where it takes too much.

Templates come from checkpoints and requests, and Jinja bounds neither their time nor their memory.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from jaxpool.errors import RequestError

PROCESSES = 2  # at once; started at the first use
GROUP = 256  # conversations of an order, which the limits are for
SECONDS, SECONDS_A_BYTE = 2.0, 1e-6  # processor time; ordinary templates take a tenth of the latter
CHARACTERS, CHARACTERS_A_BYTE = 4 << 20, 4  # of what is rendered
MEMORY, MEMORY_A_BYTE = 256 << 20, 24


def render(
    template: str,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    variables: Mapping[str, Any],
) -> list[str]:
    """The prompt of each conversation, as transformers' `apply_chat_template` writes it.

    variables: of the template, the special tokens and `add_generation_prompt` included; JSON.
    Raises RequestError, of one line, for a template that fails or exceeds a limit.
    """
    texts: list[str] = []
    options = dict(variables)
    for start in range(0, len(conversations), GROUP):
        group = conversations[start : start + GROUP]
        # Keys without a value are left out, as `apply_chat_template` does.
        kept = [[{k: v for k, v in m.items() if v is not None} for m in one] for one in group]
        texts += _POOL.ask({"template": template, "conversations": kept, "options": options})
    return texts


class _Pool:
    """Processes of `chat_worker`: one an order, more where threads ask at once."""

    def __init__(self):
        self.clear()

    def clear(self) -> None:
        self.owner = os.getpid()
        self.idle: list[subprocess.Popen] = []
        self.free = threading.BoundedSemaphore(PROCESSES)

    def ask(self, order: dict[str, Any]) -> list[str]:
        if self.owner != os.getpid():  # after a fork the pipes are the parent's
            self.clear()
        with self.free:
            try:
                process = self.idle.pop()
            except IndexError:
                process = _start()
            try:
                answer = _asked(process, order)
            except BaseException:
                _end(process)
                raise
            self.idle.append(process)
        if "error" in answer:
            line = f", line {answer['line']}" if "line" in answer else ""
            raise RequestError(f"chat template{line}: {answer['error']}")
        return answer["texts"]

    def close(self) -> None:
        while self.idle and self.owner == os.getpid():
            _end(self.idle.pop())


def _start() -> subprocess.Popen:
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "jaxpool.text.chat_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,  # an interrupt of the terminal is for its owner
    )


def _asked(process: subprocess.Popen, order: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin and process.stdout
    line = json.dumps(order, default=str).encode()
    seconds = SECONDS + SECONDS_A_BYTE * len(line)
    memory = MEMORY + MEMORY_A_BYTE * len(line)
    characters = CHARACTERS + CHARACTERS_A_BYTE * len(line)
    limits = {"seconds": seconds, "memory": memory, "characters": characters}
    answer = b""
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(limits).encode() + b"\n" + line + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    if answer:
        return json.loads(answer)
    if process.wait() == -getattr(signal, "SIGPROF", 0):
        raise RequestError(f"chat template: it takes more than {seconds:.0f} s")
    raise RequestError(
        f"chat template: it ended the process that renders it ({memory >> 20} MiB of memory "
        f"were allowed), exit code {process.returncode}"
    )


def _end(process: subprocess.Popen) -> None:
    process.kill()
    with suppress(BrokenPipeError), process:  # closes its pipes and waits
        pass


_POOL = _Pool()
atexit.register(_POOL.close)
