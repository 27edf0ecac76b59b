"""How many model types of transformers' text classes load, and of vLLM's pooling registry.

python -m benchmarks.coverage
"""

from dataclasses import fields
from pathlib import Path
from statistics import median
from types import SimpleNamespace

from transformers.models.auto import modeling_auto

from benchmarks import vllm_pooling
from converters.architectures import ending
from converters.heads.answers import GENERATING
from converters.model_types import FAMILIES
from converters.registry import find
from jaxpool.nn.arch import Arch

ROOT = Path(__file__).parents[1]
FOLDER, NN = ROOT / "converters" / "families", ROOT / "jaxpool" / "nn"
KINDS = {
    "sequence classification": ("SEQUENCE_CLASSIFICATION", "SequenceClassification"),
    "token classification": ("TOKEN_CLASSIFICATION", "TokenClassification"),
    "masked language models": ("MASKED_LM", "MaskedLM"),
}


def loads(ending: str) -> set[str]:
    """The model types whose family has a head of that ending."""
    return {name for name, family in FAMILIES.items() if ending in family.heads}


def known(architecture: str, model_type: str) -> bool:
    """Whether a checkpoint of that architecture has a family, with its head."""
    config = SimpleNamespace(architectures=[architecture])
    try:
        family = find({"architectures": [architecture], "model_type": model_type})
    except ValueError:
        return False
    name = ending(config)
    return name in family.heads or name == "Model" or architecture.endswith(GENERATING)


def of_vllm() -> None:
    """The rows of vLLM's registry: how many load, and which do not."""
    for kind, table in (("text", vllm_pooling.TEXT), ("images", vllm_pooling.IMAGES)):
        missing = [name for name, model_type in table.items() if not known(name, model_type)]
        print(
            f"vLLM's pooling registry, {kind}: {len(table) - len(missing)} of {len(table)}", end=""
        )
        print(f"; not {', '.join(missing)}" if missing else "")
    for name, reason in vllm_pooling.OUT_OF_SCOPE.items():
        print(f"out of scope: {name}, which {reason}")


def main() -> None:
    """Print the table, how long the families' files are, and what the forward is made of."""
    for kind, (mapping, suffix) in KINDS.items():
        types = getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES").keys()
        missing = sorted(types - loads(suffix))
        print(f"{kind}: {len(types) - len(missing)} of {len(types)}; not {', '.join(missing)}")
    base = modeling_auto.MODEL_MAPPING_NAMES.keys()
    print(
        f"base models, those of pictures and sound among them: {len(base & FAMILIES.keys())}",
        end="",
    )
    print(f" of {len(base)}")
    of_vllm()
    lengths = [
        len(file.read_text(encoding="utf-8").splitlines()) for file in FOLDER.glob("[a-z]*.py")
    ]
    print(f"files of families: {len(lengths)}, lines of the median {median(lengths):g}")
    files = [file for file in NN.glob("*.py") if file.stem != "__init__"]
    print(f"switches of Arch: {len(fields(Arch))}, files of nn: {len(files)}")


if __name__ == "__main__":
    main()
