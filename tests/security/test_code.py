"""Code from a checkpoint never runs, not even where a terminal would agree to it."""

import re
from pathlib import Path

import pytest
from security import tiny

ROOT = Path(__file__).parents[2]
# What reads a checkpoint's files in transformers, and may import the code they name.
READERS = re.compile(
    r"(Auto\w+|GenerationConfig|PreTrained\w+|\w*Processor\w*)\s*\.\s*from_pretrained\("
)
EVIL = "evil.T"
MAPS = {
    "tokenizer": {"AutoTokenizer": [EVIL, "evil.TFast"]},
    "slow tokenizer": {"AutoTokenizer": [EVIL, None]},
    "old tokenizer": {"AutoTokenizer": EVIL},
    "config": {"AutoConfig": "evil.Config"},
    "model": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"},
    "processor": {"AutoProcessor": "evil.Processor"},
    "image processor": {"AutoImageProcessor": "evil.Processor"},
    "other repository": {"AutoTokenizer": ["evil/repo--evil.T", None]},
    "outside": {"AutoTokenizer": ["../evil.T", None], "AutoConfig": "../evil.Config"},
}
FILES = (
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def test_a_checkpoint_that_is_not_hostile_works(case):
    assert case.run(*case.arguments("embed")).code == 0


@pytest.mark.parametrize("folder", ["jaxpool", "converters", "serving"])
def test_every_call_into_transformers_says_that_code_is_not_trusted(folder):
    for file in (ROOT / folder).rglob("*.py"):
        text = file.read_text()
        for found in READERS.finditer(text):
            call = text[found.start() : text.index(")", found.end())]
            assert "trust_remote_code=False" in call, f"{file}: {call}"


@pytest.mark.parametrize("fast", [True, False], ids=["tokenizer.json", "no tokenizer.json"])
@pytest.mark.parametrize("kind", MAPS)
def test_an_auto_map_is_not_followed(case, kind, fast):
    for place in (case.model, case.room):
        (place / "evil.py").write_text(tiny.evil_module(case.canary))
    for name in FILES:
        file = case.model / name
        file.exists() or tiny.write_json(file, {})
        tiny.edit_json(file, auto_map=MAPS[kind], trust_remote_code=True)
    tiny.edit_json(case.model / "tokenizer_config.json", tokenizer_class="T")
    if not fast:
        (case.model / "tokenizer.json").unlink()
    assert (case.harmless().code == 0) == fast


@pytest.mark.parametrize(
    "model_type", ["eurobert", "evil", "new", "nomic_bert", "jina_embeddings_v5"]
)
def test_an_architecture_that_came_with_code_runs_none(case, model_type):
    (case.model / "evil.py").write_text(tiny.evil_module(case.canary))
    maps = {"auto_map": MAPS["model"], "model_type": model_type}
    tiny.edit_json(case.model / "config.json", **maps)
    tiny.edit_json(case.model / "tokenizer_config.json", auto_map=MAPS["tokenizer"])
    (case.model / "tokenizer.json").unlink()
    case.refused()
