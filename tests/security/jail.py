"""A process where hostile input is tried: 2 GiB of memory, 30 s, a terminal that says yes.

    python -m security.jail IN OUT     commands from one descriptor, answers to another, JSON lines

What is tried is the `jaxpool` command, whose errors are one line and exit code 2. Many cases share
a process; one that dies or hangs is replaced, and the case has failed.
"""

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from select import select
from typing import NamedTuple

MEMORY = 2 << 30  # bytes beyond what the process has before the case
SECONDS = 30


class Outcome(NamedTuple):
    """How a command ended: its exit code (None: by an exception or a signal) and what it said."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def refused(self) -> bool:
        """Whether it was an error of one clear line."""
        line = self.err.strip().splitlines()[-1] if self.err.strip() else ""
        plain = "Traceback" not in self.err and len(line) < 2000
        return self.code == 2 and line.startswith("jaxpool: error: ") and plain


class Jail:
    """The process, seen from outside."""

    def __init__(self):
        self.process = None

    def run(self, *arguments) -> Outcome:
        """One `jaxpool` command."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        began = time.monotonic()
        self.orders.write(json.dumps([str(x) for x in arguments]) + "\n")
        self.orders.flush()
        ready, _, _ = select([self.answers], [], [], SECONDS)
        line = self.answers.readline() if ready else ""
        seconds = time.monotonic() - began
        if line:
            return Outcome(*json.loads(line), seconds)
        self.stop()
        why = "it ended the process" if ready else f"it took more than {SECONDS} s"
        return Outcome(None, "", why, seconds)

    def _start(self):
        order, out = os.pipe()
        answer, told = os.pipe()
        yes = tempfile.TemporaryFile()
        yes.write(b"y\n" * 1000)
        yes.seek(0)
        command = [sys.executable, "-m", "security.jail", str(order), str(told)]
        self.process = subprocess.Popen(
            command, stdin=yes, pass_fds=(order, told), env=environment()
        )
        os.close(order)
        os.close(told)
        yes.close()
        self.orders, self.answers = os.fdopen(out, "w"), os.fdopen(answer)
        self.answers.readline()  # it is ready: imports are no part of a case

    def stop(self):
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.orders.close()
            self.answers.close()
            self.process = None


def environment() -> dict[str, str]:
    """In which a process imports what its tests do, on one device, without a cache."""
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "XLA_FLAGS": "", "JAXPOOL_CACHE": ""}


def _command(arguments: list[str]) -> tuple[int | None, str, str]:
    from jaxpool import cli

    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["jaxpool", *arguments]
    app = cli.app
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if arguments[0] == "--script":
                _script(Path(arguments[1]))
            else:
                cli.main()
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            code = None
            err.write(traceback.format_exc())
        finally:
            cli.app = app
    return code, out.getvalue(), err.getvalue()


def _script(file: Path) -> None:
    """Python that a user may write, under the rules of a command."""
    from jaxpool import cli

    cli.app = lambda: exec(compile(file.read_text(), file, "exec"), {"__name__": "script"})
    cli.main()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def main(order: str, told: str) -> None:
    """The process, seen from inside."""
    import jax
    import transformers.models.auto.configuration_auto  # noqa: F401

    import converters.checkpoint  # noqa: F401
    import jaxpool.loading  # noqa: F401

    jax.numpy.zeros(1)
    with os.fdopen(int(order)) as orders, os.fdopen(int(told), "w") as answers:
        answers.write("\n")
        answers.flush()
        for line in orders:
            _limit_memory()
            answers.write(json.dumps(_command(json.loads(line))) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
