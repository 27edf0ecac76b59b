"""The files of a checkpoint folder: what they say, and the tensors of its transformer."""

from pathlib import Path
from typing import Any, NamedTuple

from converters import lora
from converters.configuration import Config, read_config
from converters.family import Family
from converters.files.scaled import with_scales
from converters.files.tensors import Manifest, Source, open_tensors
from converters.heads.rerankers import own_name
from converters.heads.sentence_transformers import Pipeline, read_pipeline
from converters.named import named
from converters.report import CheckpointError
from converters.tables import output_of


class Files(NamedTuple):
    """The files of a folder: what they say, and the transformer's tensors, none of them read.

    inside: where in the folder its transformer lies; base: the folder of its weights.
    """

    folder: Path
    inside: str
    base: Path
    family: Family
    config: Config
    pipeline: Pipeline | None
    source: Source


def open_files(
    folder: Path, overrides, adapter: Path | None, store: Path | None, name: str
) -> Files:
    """Read the configuration files, and list the tensors of the weight files.

    The arguments are those of `checkpoint.open_checkpoint`.
    """
    pipeline = read_pipeline(folder)
    inside = pipeline.transformer if pipeline else ""
    described, base, adapter = lora.find(folder / inside, adapter)
    family, config = read_config(
        described, overrides, pipeline.model_type if pipeline else None, store
    )
    family = named(family, own_name(name))
    if family.adapter and not adapter:
        _, base, adapter = lora.find(base, lora.own(base, config, family.adapter(config)))
    source = _tensors(folder, inside, base, family, adapter, config)
    for field, (name, axis) in family.sizes.items():
        setattr(config, field, source.shape(name)[axis])
    return Files(folder, inside, base, family, config, pipeline, source)


def _tensors(folder: Path, inside: str, base: Path, family, adapter, config: Config) -> Source:
    """The transformer's tensors, with the adapter's added and what is computed from them.

    An adapter may bring another vocabulary, which `config` then has.
    """
    if base != folder / inside:
        folder, inside = base, ""
    opened = open_tensors(folder, inside, family.canonical)
    integers = family.name == "Static"  # model2vec's, whose mean is what its authors take
    method = getattr(config, "quantization_config", None)
    source: Any = opened if integers else with_scales(opened, method)
    if adapter:
        if isinstance(opened, Manifest):
            raise CheckpointError(
                f"{adapter}: an adapter is merged into weight files, and {folder} holds an Orbax "
                "tree; export the merged model, then convert that"
            )
        source = lora.Merged(source, adapter, family.canonical, family.prefix)
        table, _ = output_of(family, source, config)
        if source.brings(table):
            config.vocab_size = source.shape(table)[0]
    return family.derive(source, config) if family.derive else source
