"""Models with adapters of their own, from texts to vectors: a task chooses one of them."""

import json

import numpy as np
import pytest
import torch
import transformers as hf

from jaxpool import LLM, PoolingParams
from tests.converters.families.published import JINA_V3, TASKS, Native, jina_v3, merged
from tests.tasks.bge_m3 import TEXTS, save_tokenizer

PROMPTS = {"retrieval.query": "how does a ", "retrieval.passage": "the "}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small random jina-embeddings-v3: five adapters, a prompt for two of them."""
    folder = tmp_path_factory.mktemp("jina") / "model"
    jina_v3(folder, adapters=True)
    save_tokenizer(folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(
            [
                ("", "custom_st.Transformer"),
                ("1_Pooling", "sentence_transformers.models.Pooling"),
                ("2_Normalize", "sentence_transformers.models.Normalize"),
            ]
        )
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 40, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return folder


@pytest.fixture(scope="module")
def reference(folder):
    """`reference(text, task)`: the vector by transformers' model with that adapter merged."""
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)

    def vector(text, task):
        index = None if task is None else TASKS.index(task)
        loader = Native(hf.JinaEmbeddingsV3Model, JINA_V3, lambda t: merged(t, index))
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            hidden = loader.from_pretrained(folder).eval()(**inputs).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy()

    return vector


@pytest.fixture(scope="module")
def llm(folder):
    return LLM(str(folder))


def vectors(outputs):
    return [output.outputs.embedding for output in outputs]


@pytest.mark.parametrize("task", [None, *TASKS])
def test_one_task_a_call(llm, reference, task):
    ours = vectors(llm.embed(TEXTS, task=task, use_tqdm=False))
    wanted = [reference(PROMPTS.get(task, "") + text, task) for text in TEXTS]
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)


def test_one_task_a_text(llm, reference):
    tasks = ["separation", "retrieval.query", "text-matching", "classification"]
    params = [PoolingParams(task=task) for task in tasks]
    ours = vectors(llm.embed(TEXTS, pooling_params=params, use_tqdm=False))
    each = zip(TEXTS, tasks, strict=True)
    wanted = [reference(PROMPTS.get(task, "") + text, task) for text, task in each]
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5)


def test_encode_adds_the_prompt_of_the_task(llm, reference):
    for task in ("retrieval.query", "separation"):
        wanted = [reference(PROMPTS.get(task, "") + text, task) for text in TEXTS]
        np.testing.assert_allclose(llm.model.encode(TEXTS, task=task), wanted, rtol=0, atol=1e-5)
    named = llm.embed(TEXTS, task=task, prompt_name="retrieval.passage", use_tqdm=False)
    wanted = [reference(PROMPTS["retrieval.passage"] + text, task) for text in TEXTS]
    np.testing.assert_allclose(vectors(named), wanted, rtol=0, atol=1e-5)


def test_unknown_tasks_are_refused(llm):
    with pytest.raises(ValueError, match=r"unknown task 'poetry'; known: \('retrieval.query', "):
        llm.embed(TEXTS, task="poetry")


def test_exported_folders_keep_the_adapters(llm, tmp_path):
    again = LLM(str(llm.model.export(tmp_path / "exported")))
    for task in (None, "text-matching"):
        both = [vectors(one.embed(TEXTS, task=task, use_tqdm=False)) for one in (llm, again)]
        np.testing.assert_array_equal(*both)
