"""Every example of docs/tasks.md runs, on small stand-ins for the models it names."""

import re
from pathlib import Path

import pytest
from PIL import Image
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
)

import jaxpool
from tests.conftest import MINILM
from tests.images.joined_models import qwen3_vl
from tests.images.models import save as save_towers
from tests.images.photos import photo
from tests.images.towers import save as save_alone
from tests.serving.checkpoints import decider
from tests.small import save
from tests.tasks import gliner_model
from tests.tasks.bge_m3 import save_bge_m3
from tests.tasks.test_reward import reward_folder

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
EXAMPLES = {
    title: code for title, code in re.findall(r"### (.+?)\n\n```python\n(.*?)```", PAGE, re.DOTALL)
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A local folder for each model id of the page."""

    def bert(kind, **config):
        return str(save(tmp_path_factory.mktemp("model"), kind, **config))

    tags, inference = ({0: "O", 1: "B-PER", 2: "B-LOC"}, {0: "entailment", 1: "not_entailment"})
    nli = BertForSequenceClassification
    prompted = tmp_path_factory.mktemp("prompted")
    folder = jaxpool.load(MINILM).export(prompted)
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "query: "}}')
    towers = tmp_path_factory.mktemp("towers") / "clip"
    process, _ = reward_folder(tmp_path_factory.mktemp("reward"), "Qwen2ForProcessRewardModel", 2)
    return {
        "sentence-transformers/all-MiniLM-L6-v2": MINILM,
        "intfloat/multilingual-e5-large-instruct": str(folder),
        "BAAI/bge-small-en-v1.5": MINILM,
        "mixedbread-ai/mxbai-embed-large-v1": MINILM,
        "nomic-ai/nomic-embed-text-v1.5": MINILM,
        "jinaai/jina-embeddings-v2-small-en": MINILM,
        "cardiffnlp/twitter-roberta-base-sentiment-latest": bert(
            BertForSequenceClassification, num_labels=3
        ),
        "MoritzLaurer/deberta-v3-base-zeroshot-v2.0": bert(nli, id2label=inference),
        "urchade/gliner_medium-v2.1": str(gliner_model.save(tmp_path_factory.mktemp("g"), "bert")),
        "Qwen/Qwen3-0.6B": str(decider(tmp_path_factory.mktemp("decider") / "m")),
        "dslim/bert-base-NER": bert(BertForTokenClassification, id2label=tags),
        "BAAI/bge-m3": str(save_bge_m3(tmp_path_factory.mktemp("m3") / "model")),
        "naver/splade-v3": bert(BertForMaskedLM),
        "cross-encoder/ms-marco-MiniLM-L-6-v2": bert(BertForSequenceClassification, num_labels=1),
        "Qwen/Qwen2.5-Math-PRM-7B": str(process),
        "Qwen/Qwen3-VL-Embedding-2B": str(qwen3_vl(tmp_path_factory.mktemp("vl") / "m")),
        "facebook/dinov2-small": str(save_alone(tmp_path_factory.mktemp("dino") / "m", "dinov2")),
        "google/vit-base-patch16-224": str(
            save_alone(tmp_path_factory.mktemp("vit") / "m", "vit-classifier")
        ),
        "openai/clip-vit-base-patch32": str(save_towers(towers, "clip")),
    }


@pytest.mark.parametrize("title", EXAMPLES)
def test_example(title, models, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(60, 40).save("cat.jpg")
    code = EXAMPLES[title]
    assert len(code.splitlines()) == 3
    for name in re.findall(r'LLM\("(.*?)"', code):
        code = code.replace(name, models[name])
    exec(
        code,
        {"LLM": jaxpool.LLM, "PoolingParams": jaxpool.PoolingParams, "Image": Image},
    )
    printed = capsys.readouterr().out
    for wanted in re.findall(r"# ([A-Z(0-9].*)", code):
        assert wanted in printed


def test_every_section_has_an_example():
    assert set(EXAMPLES) == set(re.findall(r"### (.+)", PAGE))
    assert len(EXAMPLES) >= 11
