"""Nothing is compiled after warm-up, whatever texts and pictures come together."""

import numpy as np
import pytest

import jaxpool
from tests.images import joined_models, models
from tests.images.photos import photo

PROMPTS = 2000
IMAGE = joined_models.IDS["<|image_pad|>"]


def clip(folder):
    """Two towers; texts of any length."""
    llm = jaxpool.LLM(
        str(models.save(folder, "clip")),
        warmup=("embed",),
        data_parallel_size=1,
        max_num_batched_tokens=80,
    )

    def prompt(rng):
        if rng.random() < 0.5:
            return {"image": photo(*rng.integers(8, 90, 2), seed=int(rng.integers(1000)))}
        return rng.integers(200, 30000, rng.integers(1, models.LENGTH)).tolist()

    return llm, prompt


def naflex(folder):
    """Two towers; pictures of any number of patches."""
    llm = jaxpool.LLM(
        str(models.save(folder, "siglip2")),
        warmup=("embed",),
        data_parallel_size=1,
        max_num_batched_tokens=256,
        mm_processor_kwargs={"max_num_patches": 256},
    )

    def prompt(rng):
        if rng.random() < 0.2:
            return rng.integers(200, 30000, rng.integers(1, models.LENGTH)).tolist()
        image = photo(*rng.integers(8, 90, 2), seed=int(rng.integers(1000)))
        few = {"max_num_patches": int(rng.integers(4, 257))}
        return {"prompt": "", "multi_modal_data": {"image": image}, "mm_processor_kwargs": few}

    return llm, prompt


def qwen3_vl(folder):
    """Pictures among the tokens of texts."""
    llm = jaxpool.LLM(
        str(joined_models.qwen3_vl(folder)),
        warmup=("embed",),
        data_parallel_size=1,
        max_model_len=32,
        max_num_batched_tokens=5 * 32,
    )

    def prompt(rng):
        ids = rng.integers(1, 200, rng.integers(1, 12)).tolist()
        images = [photo(*rng.integers(8, 50, 2)) for _ in range(rng.integers(0, 3))]
        if not images:
            return ids
        return {
            "prompt_token_ids": ids + [IMAGE] * len(images),
            "multi_modal_data": {"image": images},
        }

    return llm, prompt


@pytest.mark.parametrize(
    "make", [clip, *(pytest.param(make, marks=pytest.mark.slow) for make in (naflex, qwen3_vl))]
)
def test_no_compile_after_warm_up(make, tmp_path):
    """Calls of one to thirty prompts, until there were so many."""
    llm, prompt = make(tmp_path / "m")
    executors = [engine.executor for engine in llm.model.engines.values()]
    before = [executor.compilations for executor in executors]
    assert all(before)
    rng, left = np.random.default_rng(0), PROMPTS
    while left > 0:
        asked = [prompt(rng) for _ in range(min(left, rng.integers(1, 31)))]
        found = llm.embed(asked, use_tqdm=False)
        assert len(found) == len(asked)
        left -= len(asked)
    assert [executor.compilations for executor in executors] == before
