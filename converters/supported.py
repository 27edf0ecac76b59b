"""The supported architectures as a document."""

from converters.architectures import OTHER_HEADS
from converters.families.deberta import DEBERTA_V2
from converters.family import Family
from converters.model_types import FAMILIES
from converters.named import NAMED
from converters.registry import ARCHITECTURES, AROUND, REMOTE


def table() -> str:
    """The supported architectures as a Markdown document, docs/architectures.md."""
    lines = [
        "# Supported architectures",
        "",
        "Written by `python -m converters.supported > docs/architectures.md`. A model is found by",
        "the `model_type` of its config.json, by the code that file points to, by the name of its",
        "architecture, or by its own name (`-*`); code from a checkpoint never runs. Modules of",
        "sentence-transformers, classifiers and adapters come on top of every architecture.",
        "",
        "| config.json | architectures | such as |",
        "| --- | --- | --- |",
    ]
    around = {key: of(DEBERTA_V2) for key, of in AROUND.items()}
    called = {f"{start}-*": family for start, family in NAMED.items()}
    keyed = {**FAMILIES, **REMOTE, **ARCHITECTURES, **around, **called}
    for key, family in sorted(keyed.items(), key=lambda item: (item[1].name.lower(), item[0])):
        examples = ", ".join(f"[{name}](https://huggingface.co/{name})" for name in family.examples)
        lines.append(f"| `{key}` | {', '.join(architectures(key, family))} | {examples} |")
    lines += ["", "Names that do not end in the name of their head:", ""]
    titles = {name: f"the {head} head" for name, head in OTHER_HEADS.items()}
    titles["BgeM3EmbeddingModel"] = "the base model and the heads in files beside it"
    lines += [f"- `{name}`: {title}" for name, title in titles.items()]
    return "\n".join(lines) + "\n"


def architectures(key: str, family: Family) -> list[str]:
    """The architectures that a key of the registry stands for."""
    if key in ARCHITECTURES:
        return [key]
    shared = set(OTHER_HEADS.values()) - {"MaskedLM"}  # heads that go by names of their own
    endings = [f"For{name}" for name in family.heads if name != "Model" and name not in shared]
    return [family.name + ending for ending in ("Model", *endings)]


if __name__ == "__main__":
    print(table(), end="")
