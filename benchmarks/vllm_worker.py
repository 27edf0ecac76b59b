"""The vLLM side of `offline.py` and `images.py`.

It reads prompts, texts or files of pictures, says ready, and embeds all once for each line that it
reads, which names a NumPy file for the vectors, or none.
"""

import json
import os
import sys


def prompt(given: str | dict):
    """What vLLM takes: a text, or a picture in memory."""
    if isinstance(given, str):
        return given
    from PIL import Image

    picture = Image.open(given["image"]).convert("RGB")
    return {"prompt": "", "multi_modal_data": {"image": picture}}


def main(folder: str, dtype: str) -> None:
    """Serve rounds until the input ends; only this protocol goes to stdout."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np
    from vllm import LLM

    prompts = [prompt(given) for given in json.loads(sys.stdin.readline())]
    llm = LLM(
        model=folder,
        runner="pooling",
        dtype=dtype,
        max_num_batched_tokens=4096,
        enable_prefix_caching=False,  # each round computes all, and prepares its pictures
        mm_processor_cache_gb=0,
        skip_mm_profiling=True,
        gpu_memory_utilization=0.5,  # of the machine's memory, which has to be free at the start
    )
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        found = llm.embed(prompts, use_tqdm=False)
        if file := line.strip():
            np.save(file, np.array([one.outputs.embedding for one in found], np.float32))
        print("done", file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
