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


def numbers(pattern: str, printed: str) -> tuple[float, ...]:
    """The numbers in what a notebook prints."""
    found = re.search(pattern, printed)
    assert found, printed
    return tuple(map(float, found.groups()))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_lora(monkeypatch):
    """An adapter improves what is held out; each request has its vectors, over HTTP too."""
    printed = run("lora.ipynb", monkeypatch, 1500)
    before, after = numbers(r"before (0\.\d+), with the adapter (0\.\d+)", printed)
    assert after > before + 0.02
    assert numbers(r"one batch or two: vectors within (\S+)", printed)[0] < 1e-5
    assert numbers(r"served: vectors within (\S+)", printed)[0] < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore")
def test_distill(monkeypatch):
    """A reranker judges better than cosines, its student improves by it, and elsewhere alike."""
    printed = run("distill.ipynb", monkeypatch, 1500)
    print("\n".join(line for line in printed.splitlines() if "nDCG" in line or "by cosine" in line))
    cosine, reranker = numbers(r"by cosine (0\.\d+), by the reranker (0\.\d+)", printed)
    before, after = numbers(r"nDCG@10 before (0\.\d+), after (0\.\d+)", printed)
    (theirs,) = numbers(r"sentence-transformers: nDCG@10 (0\.\d+)", printed)
    assert reranker > cosine and after > before + 0.02
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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
def test_pictures(monkeypatch, tmp_path):
    """Real photographs and DINOv2's real weights; the other two models are small and random."""
    from tests.images import joined_models, models
    from tests.images.test_dinov2_small import convert

    monkeypatch.chdir(tmp_path)
    for name, folder in {
        "DINO": convert(tmp_path / "dino"),
        "CLIP": models.save(tmp_path / "clip", "clip"),
        "PAGES": joined_models.qwen3_vl(tmp_path / "pages"),
    }.items():
        monkeypatch.setenv(name, str(folder))
    printed = run("pictures.ipynb", monkeypatch, 600)
    assert "found 6 of 6" in printed
    assert re.search(r"page [123]: 6 x \d vectors of 32 features", printed), printed
