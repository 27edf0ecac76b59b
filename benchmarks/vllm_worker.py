"""The vLLM side of `offline.py`: reads texts, says ready, embeds once for each line it reads."""

import json
import os
import sys


def main(folder: str, dtype: str) -> None:
    """Serve rounds until the input ends; only this protocol goes to stdout."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from vllm import LLM

    texts = json.loads(sys.stdin.readline())
    llm = LLM(model=folder, runner="pooling", dtype=dtype, max_num_batched_tokens=4096)
    print("ready", file=out, flush=True)
    for _ in sys.stdin:
        llm.embed(texts, use_tqdm=False)
        print("done", file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
