"""The guides' Python examples run, and the API reference has every public name."""

import json
import re
import shlex
import shutil
from pathlib import Path

import jax
import pytest
from transformers import BertForSequenceClassification
from typer.testing import CliRunner

import jaxpool
from converters.checkpoint import open_checkpoint
from converters.heads.modules_file import add_modules
from jaxpool.cli import app
from serving.schemas import TokenizeRequest
from tests.small import save

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("*.md"))]
EXAMPLES = {page.name: re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}


@pytest.mark.parametrize("page", [name for name, blocks in EXAMPLES.items() if blocks])
def test_examples_run(page):
    names: dict = {}
    with jax.numpy_dtype_promotion("standard"):
        for block in EXAMPLES[page]:
            exec(compile(block, page, "exec"), names)
        if page == "research.md":
            assert names["loss"](names["params"], names["batch"]) < names["before"]


VECTORS = (DOCS / "vectors.md").read_text()


@pytest.fixture(scope="module")
def told(bert, tmp_path_factory):
    """What `jaxpool info` says of a model with prompts, and of a reranker with a template."""
    folder = shutil.copytree(bert, tmp_path_factory.mktemp("told") / "model")
    settings = {"prompts": {"query": "query: "}, "truncate_dim": 12}
    add_modules(folder, open_checkpoint(folder), 32, {})
    file = folder / "config_sentence_transformers.json"
    file.write_text(json.dumps(settings))
    reranker = save(tmp_path_factory.mktemp("reranker"), BertForSequenceClassification)
    (reranker / "chat_template.jinja").write_text("{{ messages[0].content }}")
    (reranker / "modules.json").write_text('[{"path": "", "type": "x.Transformer"}]')
    (reranker / "sentence_bert_config.json").write_text('{"modality_config": {"message": {}}}')
    kind = {"model_type": "CrossEncoder"}
    (reranker / "config_sentence_transformers.json").write_text(json.dumps(kind))
    said = [CliRunner().invoke(app, ["info", str(one)]) for one in (folder, reranker)]
    assert not any(one.exit_code for one in said), [one.output for one in said]
    return "".join(one.output for one in said)


@pytest.mark.parametrize("command", re.findall(r"^jaxpool info MODEL \| grep (.*)$", VECTORS, re.M))
def test_info_answers_why_vectors_differ(command, told):
    pattern = shlex.split(command)[-1]
    assert re.search(pattern, told, re.M), told


def test_the_other_commands_run(bert):
    (embed,) = re.findall(r"^jaxpool (embed .*)$", VECTORS, re.M)
    said = CliRunner().invoke(app, shlex.split(embed.replace("MODEL", str(bert))))
    assert said.exit_code == 0 and len(json.loads(said.output)["embedding"]) == 32
    (curl,) = re.findall(r"^curl -s localhost:8000/tokenize -d '(.*?)'", VECTORS, re.M)
    TokenizeRequest(**json.loads(curl))


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: jaxpool\.(\w+)$", pages, re.M))
    assert set(jaxpool.__all__) <= documented
