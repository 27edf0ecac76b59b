"""Imports point one way: serving -> jaxpool -> (lazily) converters; the core needs only jax."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = ("arch", "params", "layers", "positions", "attention", "transformer", "pool", "heads")


def imports(file, top_level_only=False):
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def roots(file, **options):
    return {name.split(".")[0] for name in imports(file, **options)}


def test_core_imports_only_jax():
    for name in CORE:
        file = ROOT / "jaxpool" / f"{name}.py"
        outside = roots(file) - sys.stdlib_module_names - {"jaxpool"}
        assert outside <= {"jax", "numpy", "flax"}, name


def test_library_never_imports_torch_or_fastapi():
    for file in [*(ROOT / "jaxpool").rglob("*.py"), *(ROOT / "converters").rglob("*.py")]:
        assert not roots(file) & {"torch", "fastapi"}, file


def test_converters_are_reached_lazily():
    for file in (ROOT / "jaxpool").rglob("*.py"):
        assert not roots(file, top_level_only=True) & {"converters", "serving"}, file
    for file in (ROOT / "converters").rglob("*.py"):
        assert "serving" not in roots(file), file


def test_import_is_light():
    """`import jaxpool` loads neither torch nor transformers' models nor the web server."""
    code = "import jaxpool, sys; print([m for m in ('torch', 'fastapi') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
