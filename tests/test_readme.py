"""Every Python example of README.md runs, in order, on small stand-ins for the models it names."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from scoring.test_late_interaction import _colbert_ai
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from tests.conftest import MINILM
from tests.images.joined_models import qwen3_vl
from tests.images.models import save as save_towers
from tests.images.page_models import colpali
from tests.images.photos import photo
from tests.images.towers import save as save_alone
from tests.parity import save_random
from tests.small import DIM, add_tokenizer, save
from tests.tasks.bge_m3 import save_bge_m3
from tests.tasks.test_reward import SIZES, reward_folder

PAGE = (Path(__file__).parent.parent / "README.md").read_text()
TASKS = dict(re.findall(r"### (.+?)\n\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The arguments of `LLM` that stand for each model id of the page."""

    def bert(kind, **config):
        return save(tmp_path_factory.mktemp("model"), kind, **config)

    def reward(architecture, labels):
        return reward_folder(tmp_path_factory.mktemp("reward"), architecture, labels)[0]

    late, outcome = (tmp_path_factory.mktemp(name) / name for name in ("late", "outcome"))
    _colbert_ai(bert(BertModel), 0.1 * torch.randn(16, DIM), late, {"query_maxlen": 16})
    save_random(LlamaForSequenceClassification, LlamaConfig(**SIZES, num_labels=1), outcome)
    folders = {
        "BAAI/bge-small-en-v1.5": MINILM,
        "sentence-transformers/all-MiniLM-L6-v2": MINILM,
        "cardiffnlp/twitter-roberta-base-sentiment-latest": bert(
            BertForSequenceClassification, num_labels=3
        ),
        "dslim/bert-base-NER": bert(BertForTokenClassification, num_labels=3),
        "cross-encoder/ms-marco-MiniLM-L6-v2": bert(BertForSequenceClassification, num_labels=1),
        "lightonai/GTE-ModernColBERT-v1": late,
        "Skywork/Skywork-Reward-V2-Llama-3.2-1B": add_tokenizer(outcome),
        "Qwen/Qwen2.5-Math-RM-72B": reward("Qwen2ForRewardModel", 1),
        "Qwen/Qwen2.5-Math-PRM-7B": reward("Qwen2ForProcessRewardModel", 2),
        "openai/clip-vit-base-patch32": save_towers(tmp_path_factory.mktemp("clip") / "m", "clip"),
        "Qwen/Qwen3-VL-Embedding-2B": qwen3_vl(tmp_path_factory.mktemp("vl") / "m"),
        "vidore/colpali-v1.3-hf": colpali(tmp_path_factory.mktemp("colpali") / "m"),
        "google/vit-base-patch16-224": save_alone(
            tmp_path_factory.mktemp("vit") / "m", "vit-classifier"
        ),
        "cat.jpg": tmp_path_factory.mktemp("photo") / "cat.png",
        "naver/splade-v3": bert(BertForMaskedLM),
        "BAAI/bge-m3": save_bge_m3(tmp_path_factory.mktemp("m3") / "model"),
    }
    photo(60, 40).save(folders["cat.jpg"])
    arguments = {name: repr(str(folder)) for name, folder in folders.items()}
    # The stand-in's vocabulary has no <extra_0>: a comma ends its steps.
    arguments["Qwen/Qwen2.5-Math-PRM-7B"] += ", pooler_config={'step_tag_id': 1010}"
    return arguments


def test_python_examples_run(models, capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 2 + len(TASKS)
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in blocks:
            for name, arguments in models.items():
                block = block.replace(f'"{name}"', arguments)
            exec(compile(block, "README.md", "exec"), names)
    assert "EmbeddingOutput(hidden_size=384)" in capsys.readouterr().out
    assert 0.3 < float(names["value"]) < 0.9
    assert np.isfinite(names["gradient"]["layers"]["mlp"]["up"]["kernel"]).all()


def test_every_task_has_an_example_of_three_lines():
    table = re.findall(r"^\| \[(.+?)\]\((#.+?)\)", PAGE, re.MULTILINE)
    assert [task for task, _ in table] == list(TASKS)
    assert [link for _, link in table] == [
        "#" + task.replace(":", "").replace(" ", "-") for task in TASKS
    ]
    kinds = {task.partition(":")[0] for task in TASKS}
    wanted = {"embed", "token_embed", "classify", "token_classify", "score", "reward", "sparse"}
    wanted |= {"several at once"}
    assert kinds == wanted
    assert {len(code.splitlines()) for code in TASKS.values()} == {3}
