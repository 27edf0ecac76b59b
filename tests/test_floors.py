"""The floors of the house, read from the syntax trees: imports go down, files stay short.

Every check takes the root of a tree, so that the last tests can show that each can fail.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Each package or module of jaxpool once, the lowest floor first: it imports its own and lower ones.
FLOORS = (
    ("errors", "nn"),
    ("heads",),
    ("tasks",),
    ("engine",),
    ("text", "images", "search"),
    ("scoring",),
    (
        "fingerprint",
        "flax_module",
        "loras",
        "offline",
        "model",
        "loading",
        "tokenizing",
        "vllm_options",
        "llm",
    ),
    ("train", "jobs", "integrations", "info", "cli"),
)
BELOW = {"nn", "heads"}  # the plain JAX library: what they import of others
CORE = {"jax", "numpy", "flax"}
NEVER = {"jaxpool": {"torch", "fastapi"}, "converters": {"torch", "fastapi", "serving"}}
LAZY = {"converters", "serving", "torch", "fastapi"}  # never at the head of a file of jaxpool
PACKAGES = ("jaxpool", "converters", "serving")
SHORT = (*PACKAGES, "benchmarks", "tests")
LINES, FUNCTION, FILES, CHAIN = 300, 40, 15, 12
# What is over a limit, with the reason: "file" or "file:function".
LONG: dict[str, str] = {
    "tests/converters/families/test_remote.py:test_nomic_moe": "the names of a published file",
    "tests/converters/families/test_t5.py:test_sentence_transformers_folder": "makes its folder",
}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def modules(root: Path) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py"))]
    names = (file.relative_to(root).with_suffix("").parts for file in files)
    dotted = (".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in names)
    return dict(zip(dotted, files, strict=True))


@cache
def public(root: Path) -> dict[str, str]:
    """Where each public name of `jaxpool` comes from, by the stub that `import jaxpool` reads."""
    stub = root / "jaxpool" / "__init__.pyi"
    nodes = tree(stub).body if stub.is_file() else ()
    found = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {a.asname or a.name: f"jaxpool.{n.module}" for n in found for a in n.names}


def imports(root: Path, file: Path, head: bool = False) -> Iterator[str]:
    """The modules that a file imports, anywhere or (head) as soon as it is imported itself."""
    known, names = modules(root), public(root)
    for node in tree(file).body if head else ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                source = names.get(alias.name) if node.module == "jaxpool" else None
                yield inside if inside in known else source or node.module


@cache
def graph(root: Path) -> dict[str, set[str]]:
    """What each module imports of the packages."""
    known = modules(root)
    return {name: known.keys() & set(imports(root, file)) for name, file in known.items()}


def unit(module: str) -> str:
    """The package or module of jaxpool that a module belongs to: "jaxpool.nn.arch" -> "nn"."""
    return module.split(".")[1]


@cache
def inside(root: Path) -> dict[str, list[str]]:
    """The imports within jaxpool; its `__init__` names all floors and belongs to none."""
    return {
        module: sorted(name for name in found if name.startswith("jaxpool."))
        for module, found in graph(root).items()
        if module.startswith("jaxpool.")
    }


def upward(root: Path) -> list[str]:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    homeless = {unit(m) for m in modules(root) if m.startswith("jaxpool.")} - floor.keys()
    return sorted(f"{name} has no floor" for name in homeless) or sorted(
        f"{module} imports {name}, which is above it"
        for module, found in inside(root).items()
        for name in found
        if floor[unit(name)] > floor[unit(module)]
    )


def circles(root: Path) -> list[str]:
    """Circles of modules, and of the packages of jaxpool."""
    packages: dict[str, set[str]] = {}
    for module, found in inside(root).items():
        others = {unit(name) for name in found} - {unit(module)}
        packages.setdefault(unit(module), set()).update(others)
    # What jaxpool takes from the other packages is asked for inside functions, by design.
    above = {m: found for m, found in graph(root).items() if not m.startswith("jaxpool")}
    return [found for each in (packages, inside(root) | above) if (found := circle(each))]


def circle(edges: Mapping[str, Iterable[str]]) -> str:
    """One circle of a graph as a text; empty where there is none."""
    done: set[str] = set()

    def visit(node: str, way: tuple[str, ...]) -> str:
        if node in way:
            return " -> ".join((*way[way.index(node) :], node))
        if node in done:
            return ""
        found = (visit(other, (*way, node)) for other in sorted(edges.get(node, ())))
        first = next(filter(None, found), "")
        done.add(node)
        return first

    return next(filter(None, (visit(node, ()) for node in sorted(edges))), "")


def longest_chain(root: Path) -> tuple[str, ...]:
    """The longest way of imports inside jaxpool, from the top."""
    edges = inside(root)

    @cache
    def below(module: str) -> tuple[str, ...]:
        return (module, *max(map(below, edges[module]), key=len, default=()))

    return max(map(below, edges), key=len, default=())


def foreign(root: Path) -> list[str]:
    """Imports that a package must not have, or not at the head of a file."""
    found = []
    for module, file in modules(root).items():
        package, _, rest = module.partition(".")
        everything = {name.split(".")[0] for name in imports(root, file)}
        bad = everything & NEVER.get(package, set())
        if package == "jaxpool":
            bad |= {name.split(".")[0] for name in imports(root, file, head=True)} & LAZY
            if rest and unit(module) in BELOW:
                bad |= everything - sys.stdlib_module_names - CORE - {"jaxpool"}
        found += [f"{module} imports {name}" for name in sorted(bad)]
    return found


def long_ones(root: Path, allowed: dict[str, str] = LONG) -> list[str]:
    """Files and functions over the limits without a reason, and reasons for what is not there."""
    sizes = {}
    for file in (file for package in SHORT for file in sorted((root / package).rglob("*.py"))):
        name = file.relative_to(root).as_posix()
        sizes[name] = len(file.read_text(encoding="utf-8").splitlines()), LINES
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = node.end_lineno - node.lineno + 1
                if size > FUNCTION:
                    sizes[f"{name}:{node.name}"] = size, FUNCTION
    over = {name: size for name, (size, limit) in sizes.items() if size > limit}
    return [f"{name}: {over[name]} lines" for name in over if name not in allowed] + [
        f"{name}: no longer over a limit" for name in allowed if name not in over
    ]


def test_imports_go_down():
    assert not upward(ROOT)


def test_no_circle():
    assert not circles(ROOT)


def test_packages_import_what_they_may():
    assert not foreign(ROOT)


def test_files_and_functions_are_short():
    assert not long_ones(ROOT)


def twins(root: Path) -> list[str]:
    """Modules of tests with one name, of which pytest could import only one."""
    found: dict[str, list[str]] = {}
    for file in sorted((root / "tests").rglob("test_*.py")):
        found.setdefault(file.name, []).append(file.parent.name)
    return [f"{name}: {', '.join(places)}" for name, places in found.items() if len(places) > 1]


def test_modules_of_tests_have_names_of_their_own():
    assert not twins(ROOT)


def test_few_files_at_the_top():
    files = sorted(file.name for file in (ROOT / "jaxpool").glob("*.py"))
    assert len(files) <= FILES, files


def test_the_longest_chain_of_imports():
    chain = longest_chain(ROOT)
    print(len(chain), " -> ".join(chain))
    assert len(chain) <= CHAIN, chain


@pytest.fixture
def house(tmp_path):
    """`house({"jaxpool/nn/a.py": "import jax", ...})`: a tree of such files."""

    def make(files: dict[str, str]) -> Path:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return tmp_path

    return make


SOUND = {
    "jaxpool/__init__.py": "",
    "jaxpool/__init__.pyi": "from .llm import LLM",
    "jaxpool/nn/arch.py": "import jax",
    "jaxpool/heads/steps.py": "from jaxpool.nn import arch",
    "jaxpool/llm.py": "from jaxpool.heads.steps import x\ndef f(): import converters.checkpoint",
    "jaxpool/cli.py": "from jaxpool import LLM",
    "converters/checkpoint.py": "from jaxpool.nn.arch import Arch",
}


def test_a_sound_tree_passes(house):
    root = house(SOUND)
    assert not upward(root) + circles(root) + foreign(root) + long_ones(root, {})
    assert longest_chain(root) == (
        "jaxpool.cli",
        "jaxpool.llm",
        "jaxpool.heads.steps",
        "jaxpool.nn.arch",
    )


@pytest.mark.parametrize(
    "check, file, text, problem",
    [
        (upward, "jaxpool/nn/b.py", "from jaxpool.heads import steps", "jaxpool.heads.steps"),
        (upward, "jaxpool/nn/b.py", "def f():\n    from jaxpool import LLM", "jaxpool.llm"),
        (upward, "jaxpool/attic.py", "", "attic has no floor"),
        (circles, "jaxpool/nn/arch.py", "import jaxpool.nn.arch", "arch -> jaxpool.nn.arch"),
        (circles, "jaxpool/text/a.py", "from jaxpool.images import a", "images -> text -> images"),
        (circles, "converters/a.py", "def f():\n    import converters.b", "a -> converters.b"),
        (foreign, "jaxpool/llm.py", "def f():\n    import torch", "jaxpool.llm imports torch"),
        (foreign, "jaxpool/text/x.py", "from fastapi import FastAPI", "imports fastapi"),
        (foreign, "jaxpool/llm.py", "from converters import registry", "imports converters"),
        (foreign, "jaxpool/nn/a.py", "def f():\n    import tqdm", "jaxpool.nn.a imports tqdm"),
        (foreign, "converters/a.py", "import serving.app", "converters.a imports serving"),
        (long_ones, "serving/a.py", "x = 1\n" * 301, "serving/a.py: 301 lines"),
        (twins, "tests/nn/test_a.py", "", "test_a.py: heads, nn"),
        (long_ones, "tests/a.py", "def f():\n" + "    x = 1\n" * 40, "tests/a.py:f: 41 lines"),
    ],
)
def test_each_check_can_fail(house, check, file, text, problem):
    others = {"jaxpool/images/a.py": "from jaxpool.text import b", "jaxpool/text/b.py": ""}
    others |= {"tests/heads/test_a.py": ""}
    circular = {"converters/b.py": "import converters.a"} if file == "converters/a.py" else {}
    root = house(SOUND | others | circular | {file: text})
    assert any(problem in line for line in check(root)), check(root)


def test_a_reason_must_still_be_needed(house):
    root = house(SOUND | {"serving/a.py": "x = 1\n" * 301})
    assert not long_ones(root, {"serving/a.py": "data"})
    assert long_ones(root, {"serving/a.py": "data", "serving/b.py": "data"})
