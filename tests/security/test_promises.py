"""docs/security.md names a test for each promise, and the tests are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\|(?! ---| promise| what \|)(.*)\|$", re.MULTILINE)
NAMED = re.compile(r"`((?:tests/[\w/]+/)?test_\w+)(\.py)?(?:::(test_\w+))?`")


def named(text: str, file: Path | None = None):
    """The file, and perhaps the test, of each name in a text; a bare test is in the last file."""
    for name, module, test in NAMED.findall(text):
        if module:
            folder = ROOT if name.startswith("tests/") else ROOT / "tests" / "security"
            file = folder / f"{name}.py"
            yield file, test
        else:
            yield file, name


def test_each_promise_names_tests_that_exist():
    text = (ROOT / "docs" / "security.md").read_text()
    rows = ROW.findall(text)
    assert len(rows) > 15
    for row in rows:
        found = list(named(row))
        assert found, f"no test: {row}"
        for file, test in found:
            assert file and file.is_file(), row
            assert not test or f"def {test}(" in file.read_text(), f"{test} of {row}"


def test_a_test_that_is_not_there_is_found():
    (found,) = named("| x | `test_promises.py::test_that_nobody_wrote` |")
    assert f"def {found[1]}" not in Path(__file__).read_text().replace("::test", "")
