"""The guides' Python examples run, and the API reference has every public name."""

import re
from pathlib import Path

import jax
import pytest

import jaxpool

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


def test_every_public_name_is_in_the_reference():
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: jaxpool\.(\w+)$", pages, re.M))
    assert set(jaxpool.__all__) <= documented
