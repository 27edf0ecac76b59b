"""The notebooks run from top to bottom, and are committed without outputs."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def run(name: str, monkeypatch, seconds: int = 120) -> str:
    """What a notebook prints."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOKS.parent))
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=seconds, kernel_name="python3").execute()
    return "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )


# ipykernel and its event loop warn about their own deprecations.
@pytest.mark.filterwarnings("ignore")
def test_quickstart(monkeypatch):
    printed = run("quickstart.ipynb", monkeypatch)
    assert "cosine 0.5" in printed and "bread" in printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_finetune(monkeypatch):
    """Fine-tuning improves what is held out, and sentence-transformers has the same numbers."""
    printed = run("finetune.ipynb", monkeypatch, 1500)
    print("\n".join(line for line in printed.splitlines() if "nDCG" in line or "pairs" in line))
    found = re.search(r"before (0\.\d+), after (0\.\d+)", printed)
    same = re.search(r"sentence-transformers: nDCG@10 (0\.\d+)", printed)
    assert found and same, printed
    before, after, theirs = map(float, (*found.groups(), *same.groups()))
    assert after > before + 0.02
    assert abs(after - theirs) < 2e-3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_ray_corpus(monkeypatch):
    """Texts become vectors in an actor of Ray, and the right ones are found."""
    pytest.importorskip("ray")
    printed = run("ray_corpus.ipynb", monkeypatch, 500)
    count = re.search(r"(\d+) texts", printed)
    assert count and int(count[1]) > 200 and f"{count[1]} vectors, fixed_size_list" in printed
    for name in ("numpy.linalg.inv", "numpy.sum", "numpy.concatenate"):
        assert name in printed
