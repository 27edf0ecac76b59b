"""Compiled folders and the cache: no pickle is read, and nothing that others can write."""

import ast
import json
import os
import pickletools
import shutil
from pathlib import Path

import pytest
from security import tiny

from jaxpool.engine import folders

ROOT = Path(__file__).parents[2]
PICKLES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "serialize_executable"}
LIMITS = ("--max-model-len", "16", "--max-num-batched-tokens", "16")


@pytest.fixture(scope="session")
def compiled(good, jail, tmp_path_factory):
    """A folder of `jaxpool compile`."""
    out = tmp_path_factory.mktemp("compiled") / "out"
    outcome = jail.run("compile", good, "--output", out, "--task", "embed", *LIMITS)
    assert outcome.code == 0, outcome
    return out


@pytest.fixture
def load(jail, good, compiled, tmp_path):
    """`load(spoil)`: the outcome of a start from a copy of the folder, after `spoil(copy)`."""

    def start(spoil=lambda folder: None):
        copy = shutil.copytree(compiled, tmp_path / "compiled")
        spoil(copy)
        script = tmp_path / "start.py"
        script.write_text(
            f"import jaxpool\nllm = jaxpool.LLM({str(good)!r}, compiled={str(copy)!r}, "
            "max_model_len=16, max_num_batched_tokens=16, forbid_compiles=True)\n"
            "llm.embed(['hello world'], use_tqdm=False)\n"
        )
        return jail.run("--script", script)

    return start


def test_a_folder_that_nobody_has_touched_starts(load):
    assert load().code == 0


def imported(file):
    """Every name that a file imports, in parts."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", "")


def test_pickles_are_read_by_the_reader_of_tensors_and_between_a_servers_own_processes():
    files = [
        f for name in ("jaxpool", "converters", "serving") for f in (ROOT / name).rglob("*.py")
    ]
    users = {file.name for file in files if PICKLES & set(imported(file))}
    assert users == {"torch_file.py", "torch_save.py", "wire.py"}


def test_the_files_are_no_pickles(compiled):
    for file in compiled.glob("*.bin"):
        with pytest.raises(ValueError):
            list(pickletools.genops(file.read_bytes()))


def test_it_is_made_for_its_owner_alone(compiled):
    assert compiled.stat().st_mode & 0o777 == 0o700
    assert folders.writers(compiled) is None


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o770, 0o702, 0o1777])
@pytest.mark.parametrize("what", ["folder", "manifest", "program", "config"])
def test_what_others_can_write_is_refused(load, mode, what):
    patterns = {"manifest": "executables.json", "program": "*.bin", "config": "config-*.json"}

    def spoil(folder):
        path = folder if what == "folder" else next(folder.glob(patterns[what]))
        path.chmod(mode)

    outcome = load(spoil)
    assert outcome.refused and "can write" in outcome.err, outcome


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["folder", "program"])
def test_what_belongs_to_somebody_else_is_refused(load, what):
    def spoil(folder):
        os.chown(folder if what == "folder" else next(folder.glob("*.bin")), 12345, 12345)

    assert "user 12345" in load(spoil).err


@pytest.mark.parametrize("kind", ["pickle", "protocol 0", "empty", "cut", "noise", "zeros"])
def test_a_program_that_is_none_runs_no_python(load, tmp_path, kind):
    canary = tmp_path / "canary"

    def spoil(folder):
        for file in folder.glob("*.bin"):
            whole = file.read_bytes()
            evil = {
                "pickle": tiny.touching(canary),
                "protocol 0": f"cbuiltins\nopen\n(S'{canary}'\nS'w'\ntR.".encode(),
                "empty": b"",
                "cut": whole[: len(whole) // 2],
                "noise": os.urandom(4096),
                "zeros": bytes(4096),
            }
            file.write_bytes(evil[kind])

    outcome = load(spoil)
    assert outcome.refused and not canary.exists(), outcome


@pytest.mark.parametrize("manifest", ["[]", "{}", "3", '{"identity": [], "files": {}}', "{", "\0"])
def test_a_manifest_of_another_shape_is_refused(load, manifest):
    assert load(lambda folder: (folder / "executables.json").write_text(manifest)).refused


@pytest.mark.parametrize("signature", [[], [[99], []], [[0], [[[-1], "float32"]]], ["x", 3], None])
def test_a_signature_that_is_not_the_program_s_is_refused(load, signature):
    def spoil(folder):
        file = folder / "executables.json"
        made = json.loads(file.read_text())
        made["files"] = dict.fromkeys(made["files"], signature)
        file.write_text(json.dumps(made))

    assert load(spoil).refused


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o720])
def test_a_cache_that_others_can_write_is_not_used(tmp_path, monkeypatch, caplog, mode):
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    monkeypatch.setenv("JAXPOOL_CACHE", str(folder))
    assert folders.cache_folder() is None
    assert "can be written by its group or everybody" in caplog.text
    assert len(caplog.records) == 1


def test_a_cache_is_made_for_its_owner_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPOOL_CACHE", str(tmp_path / "some" / "cache"))
    assert folders.cache_folder().stat().st_mode & 0o777 == 0o700
