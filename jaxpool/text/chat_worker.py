"""The process that renders chat templates: `python -m jaxpool.text.chat_worker`, see `rendering`.

Standard input has lines of JSON, limits and an order by turns; standard output has the answers. A
template is a program: the sandbox of transformers keeps it from files and from Python, and the
operating system ends this process where an order takes more processor time or (Linux) memory.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

SHOWN = 1000  # characters of an error


def main() -> None:
    """Answer orders until standard input ends."""
    from transformers.utils.chat_template_utils import render_jinja_template

    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints is no answer
    own = _address_space()
    for line in sys.stdin.buffer:
        limits, order = json.loads(line), sys.stdin.buffer.readline()
        _limit(limits["seconds"], own + limits["memory"])
        answer = _answer(render_jinja_template, order, limits["characters"])
        _limit(0, None)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(render, line: bytes, characters: int) -> dict[str, Any]:
    from jinja2 import TemplateError, TemplateSyntaxError

    texts: list[str] = []
    try:
        order = json.loads(line)
        for conversation in order["conversations"]:
            (text,), _ = render([conversation], chat_template=order["template"], **order["options"])
            texts.append(text)
            if sum(map(len, texts)) > characters:
                return {"error": f"it makes more than {characters} characters"}
    except TemplateSyntaxError as error:
        return {"line": error.lineno, "error": str(error.message)[:SHOWN]}
    except MemoryError:
        return {"error": "it takes more memory than is allowed"}
    except TemplateError as error:
        return {"error": str(error.message)[:SHOWN]}
    except (ArithmeticError, AttributeError, LookupError, RecursionError) as error:
        return {"error": f"{type(error).__name__}: {error}"[:SHOWN]}
    except Exception as error:
        return {"error": str(error)[:SHOWN]}
    return {"texts": texts}


def _limit(seconds: float, space: int | None) -> None:
    """End this process after `seconds` of its time (0: never); `space` bytes are all it has."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # unhandled, its signal ends the process
    if sys.platform == "linux":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if space is None else space, most))


def _address_space() -> int:
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    main()
