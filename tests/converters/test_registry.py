"""The registry: its document is up to date, and the library knows no family by name."""

import ast
from pathlib import Path

from converters import architectures, model_types, registry, supported

ROOT = Path(__file__).parents[2]


def test_document_is_what_the_registry_says():
    """`python -m converters.supported > docs/architectures.md` after every new family."""
    assert (ROOT / "docs" / "architectures.md").read_text() == supported.table()


def test_every_family_has_an_example():
    families = [*model_types.FAMILIES.values(), *registry.REMOTE.values()]
    assert not [family.name for family in families if not family.examples]


def strings(file):
    """The string constants of a file, without docstrings."""
    tree = ast.parse(file.read_text())
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if isinstance(n, bodies)}
    nodes = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {node.value for node in nodes} - docs


def test_the_library_knows_no_family():
    """Data picks the architecture: nothing in jaxpool/ names one, to compare or to look up."""
    families = [*model_types.FAMILIES.values(), *registry.REMOTE.values()]
    names = {*model_types.FAMILIES, *registry.ARCHITECTURES, *architectures.OTHER_HEADS}
    names |= {family.name.lower() for family in families}
    found = {
        (file.name, text)
        for file in (ROOT / "jaxpool").rglob("*.py")
        for text in strings(file) - {"clip"}  # what jnp.take does beyond the end
        if text.lower() in names or text.partition("For")[0].lower() in names
    }
    assert not found


def test_family_files_are_tables():
    """A family is at most 90 lines."""
    from sys import modules

    files = {
        Path(modules[module].__file__)
        for module in modules
        if module.startswith("converters.")
        and any(isinstance(v, registry.Family) for v in vars(modules[module]).values())
    } - {Path(file.__file__) for file in (registry, model_types, supported)}
    long = {f.name: n for f in files if (n := len(f.read_text().splitlines())) > 90}
    assert files and not long
