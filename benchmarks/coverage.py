"""How many model types of transformers' text classes load: one line a kind of class.

python -m benchmarks.coverage
"""

from pathlib import Path
from statistics import median

from transformers.models.auto import modeling_auto

from converters.registry import FAMILIES

FOLDER = Path(__file__).parents[1] / "converters" / "families"
KINDS = {
    "sequence classification": ("SEQUENCE_CLASSIFICATION", "SequenceClassification"),
    "token classification": ("TOKEN_CLASSIFICATION", "TokenClassification"),
    "masked language models": ("MASKED_LM", "MaskedLM"),
}


def loads(ending: str) -> set[str]:
    """The model types whose family has a head of that ending."""
    return {name for name, family in FAMILIES.items() if ending in family.heads}


def main() -> None:
    """Print the table, and how long the families' files are."""
    for kind, (mapping, ending) in KINDS.items():
        known = getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").keys()
        print(f"{kind}: {len(known & loads(ending))} of {len(known)}")
    base = modeling_auto.MODEL_MAPPING_NAMES.keys()
    print(
        f"base models, those of pictures and sound among them: {len(base & FAMILIES.keys())}",
        end="",
    )
    print(f" of {len(base)}")
    lengths = [
        len(file.read_text(encoding="utf-8").splitlines()) for file in FOLDER.glob("[a-z]*.py")
    ]
    print(f"files of families: {len(lengths)}, lines of the median {median(lengths):g}")


if __name__ == "__main__":
    main()
