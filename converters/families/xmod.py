"""X-MOD: RoBERTa with a bottleneck in each layer, one a language."""

from converters.families import bert, roberta
from converters.family import Family, dense
from jaxpool.nn.arch import Arch

WANTED = {
    "pre_norm": False,
    "adapter_layer_norm": False,
    "adapter_reuse_layer_norm": True,
    "ln_before_adapter": True,
}


def arch(config) -> Arch:
    """X-MOD as published: the norm of the MLP comes before its bottleneck and after it."""
    for field, value in WANTED.items():
        if getattr(config, field) != value:
            raise ValueError(f"config.json: {field} must be {value} for X-MOD, found {not value}")
    width = config.hidden_size // config.adapter_reduction_factor
    return roberta.arch(config).replace(bottleneck=width)


def names(config) -> str:
    """The table with the bottlenecks of the default language; the others stay unread."""
    language = config.default_language
    if language not in config.languages:
        raise ValueError(
            f"config.json: default_language must be one of {list(config.languages)}, found "
            f"{language!r}; hf_overrides={{'default_language': 'en_XX'}} sets it"
        )
    stem = f"encoder.layer.{{L}}.output.adapter_modules.{language}"
    table = bert.NAMES.replace("layers.mlp_norm.", "layers.{mlp_norm,bottleneck_norm}.")
    return (
        table
        + dense("layers.bottleneck.up", f"{stem}.dense1", "f D")
        + dense("layers.bottleneck.down", f"{stem}.dense2", "D f")
    )


XMOD: Family = roberta.twin(
    "Xmod",
    "roberta.",
    arch=arch,
    names=names,
    ignored=(*roberta.ignored("roberta."), r"\.adapter_modules\."),
    examples=("facebook/xmod-base",),
)
