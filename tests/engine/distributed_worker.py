"""One of the processes that `test_distributed.py` starts: embeds texts and saves what it got."""

import json
import sys
from unittest.mock import patch

import jax
import numpy as np

from jaxpool import LLM
from jaxpool.engine import executor as executors


def main(model: str, output: str, texts: str, options: str, free: str) -> None:
    """Vectors and token matrices of `texts` (JSON) under `options` of `LLM` (JSON).

    `free`: bytes that a device seems to have left when the model is loaded.
    """
    jax.config.update("jax_default_matmul_precision", "highest")
    with patch.object(executors, "free_memory", lambda device: int(free)):
        llm = LLM(model, **json.loads(options))
    texts = json.loads(texts)
    vectors = [r.outputs.embedding for r in llm.embed(texts, use_tqdm=False)]
    tokens = llm.encode(texts[:3], pooling_task="token_embed", use_tqdm=False)
    up = llm.model.params["layers"]["mlp"]["up"]["kernel"]
    np.savez(
        output,
        vectors=np.array(vectors),
        tokens=np.concatenate([np.asarray(r.outputs.data) for r in tokens]),
        processes=jax.process_count(),
        devices=llm.model.mesh.size,
        budget=llm.model.engine.budget,
        part=up.addressable_shards[0].data.size / up.size,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
