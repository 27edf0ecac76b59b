"""Which family reads which checkpoint, by the `model_type` of its config.json."""

from converters.bert import BERT, DISTILBERT, ELECTRA, ROBERTA
from converters.family import Family

FAMILIES: dict[str, Family] = {
    "bert": BERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
}


def find(model_type: str | None) -> Family:
    """The family of a model type; the error lists the supported ones."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"unsupported architecture: model_type {model_type!r}; "
            f"supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]
