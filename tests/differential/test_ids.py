"""Ids, token types and refusals equal to AutoTokenizer's over generated tokenizer folders."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from transformers import AutoTokenizer

from converters.report import CheckpointError
from jaxpool.text.tokenizer import Tokenizer
from tests.differential import tokenizer_folders

TEXTS = [
    "Hello world, Éte naïve 日本語!",
    "a <ent> cat <json> dog<ent>",
    "  two  spaces [SEP] </s> <s>",
    "don't 1,000 ﬁ \u200b 🙂",
    "",
]
PAIRS = list(zip(TEXTS[:3], TEXTS[1:4], strict=True))
FAST, MANY = 60, 2100


def difference(folder) -> str | None:
    """Where jaxpool's tokenizer is not transformers'; None where it is."""
    try:
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        return _refused(folder, error)
    if reason(theirs, json.loads((folder / "tokenizer.json").read_text())):
        return None
    ours = Tokenizer(folder)
    for given in (TEXTS, PAIRS):
        paired = list(zip(*given, strict=True)) if given is PAIRS else [given]
        sides = [list(side) for side in paired]
        for limit in (None, 7):
            cut = {"truncation": True, "max_length": limit} if limit else {}
            wanted = theirs(*sides, **cut, verbose=False)
            found = ours(given, truncate=limit)
            for i, tokens in enumerate(found):
                if tokens.ids.tolist() != wanted["input_ids"][i]:
                    return f"{given[i]!r} {limit}: {tokens.ids} != {wanted['input_ids'][i]}"
                types = wanted.get("token_type_ids")
                own = np.zeros_like(tokens.ids) if tokens.types is None else tokens.types
                if types is not None and not np.array_equal(types[i], own):
                    return f"types of {given[i]!r}: {own} != {types[i]}"
    named = {"pad_token": ours.pad_id, "mask_token": ours.special("mask_token")}
    for name, found in named.items():
        wanted = getattr(theirs, f"{name}_id")
        if wanted is not None and wanted != found:
            return f"{name}: {found} != {wanted}"
    return None


def _refused(folder, error) -> str | None:
    try:
        Tokenizer(folder)
    except CheckpointError:
        return None
    return f"transformers refuses ({error}), jaxpool does not"


def reason(theirs, written: dict) -> str | None:
    """Why a disagreement stands: the list of those that are meant."""
    made = json.loads(theirs.backend_tokenizer.to_str())
    if made["model"]["type"] != written["model"]["type"]:
        return "transformers reads one kind of vocabulary as another; tokenizer.json is right"
    byte_level = ['"ByteLevel"' in json.dumps(p["pre_tokenizer"]) for p in (made, written)]
    if byte_level[0] != byte_level[1]:
        return "transformers reads bytes as characters, or characters as bytes"
    return None


def differences(root, seeds) -> dict[int, str]:
    """What differs, by seed."""
    found = {}
    for seed in seeds:
        folder = root / str(seed)
        said = tokenizer_folders.write(folder, seed)
        if what := difference(folder):
            found[seed] = f"{what}\n{json.dumps(said)}"
        shutil.rmtree(folder)
    return found


def test_some_tokenizer_folders(tmp_path):
    assert not differences(tmp_path, range(FAST))


def test_a_fault_is_found(tmp_path, monkeypatch):
    """A tokenizer that lowers its texts, or takes off special tokens, differs in many folders."""
    real = Tokenizer
    for fault in ({"lower_case": True}, {"bare": True}):
        monkeypatch.setitem(globals(), "Tokenizer", partial(real, **fault))
        assert len(differences(tmp_path, range(10))) > 2


@pytest.mark.slow
def test_many_tokenizer_folders(tmp_path):
    assert not differences(tmp_path, range(FAST, MANY))
