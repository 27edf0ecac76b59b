"""`jaxpool embed`, `classify`, `score`, `encode` and `run-batch`: one set of options for rows."""

import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any

import typer

Argument, Option = typer.Argument, typer.Option


@dataclass
class Options:
    """What a command over rows takes; each field is an argument or an option of it."""

    model: Annotated[str, Argument(help="A folder, a Hub id, or pkg://package/path.")]
    texts: Annotated[list[str] | None, Argument(help="Texts; answers print as JSON.")] = None
    input: Annotated[
        list[str] | None, Option(help="File, glob, folder or URL; may be repeated.")
    ] = None
    output: Annotated[str | None, Option(help="A folder; for one file of input, a file.")] = None
    column: Annotated[str, Option(help="The text's column; two with a comma to score.")] = "text"
    modality: Annotated[str, Option(help="image: the column has pictures' bytes or paths.")] = (
        "text"
    )
    keep: Annotated[str, Option(help="Columns to keep, with commas; '*' for all.")] = ""
    task: Annotated[str | None, Option(help="token_embed, sparse, embed&sparse, ...")] = None
    format: Annotated[str, Option(help="Of parts: parquet, npy, arrow, jsonl, lance.")] = "parquet"
    on_error: Annotated[str, Option(help="Of bad rows: raise, null or skip.")] = "raise"
    truncate: Annotated[bool, Option(help="Cut texts beyond the model's limit.")] = True
    precision: Annotated[str, Option(help="float32, float16, int8, uint8, binary, ubinary.")] = (
        "float32"
    )
    dimensions: Annotated[int | None, Option(help="Leading features kept (Matryoshka).")] = None
    prompt_name: Annotated[str | None, Option(help="An instruction of the checkpoint.")] = None
    prompt: Annotated[str | None, Option(help="An instruction before each text.")] = None
    input_type: Annotated[str | None, Option(help="query or document.")] = None
    adapter: Annotated[str | None, Option(help="The model's own adapter, by its name.")] = None
    aggregation: Annotated[str, Option(help="How tokens become entities.")] = "simple"
    shard: Annotated[str | None, Option(help="i/n from 0, auto or auto/n: every n-th file.")] = None
    claim: Annotated[bool, Option(help="Share the output folder with other workers.")] = False
    chunk: Annotated[int, Option(help="Rows computed together; all a kill can cost.")] = 8192
    heartbeat: Annotated[float, Option(help="Seconds between lines of progress; 0: none.")] = 30.0
    dtype: Annotated[str, Option(help="auto, float32, bfloat16 or float16.")] = "auto"
    revision: Annotated[str | None, Option(help="Branch, tag or commit of a Hub id.")] = None
    max_model_len: Annotated[int | None, Option(help="A limit below the model's own.")] = None
    max_num_batched_tokens: Annotated[int | None, Option(help="Tokens of a batch.")] = None
    data_parallel_size: Annotated[int | None, Option(help="Devices to share rows.")] = None
    quantization: Annotated[str | None, Option(help="int8, fp8, ..._weight_only")] = None
    hf_overrides: Annotated[str | None, Option(help="JSON of config.json fields.")] = None


CALL = ("prompt_name", "prompt", "input_type", "adapter", "dimensions")
LOAD = ("revision", "max_model_len", "max_num_batched_tokens", "data_parallel_size", "quantization")


def run(task: str, options: Options) -> None:
    """Run a command: on texts of the command line, or on files."""
    if bool(options.texts) == bool(options.input):
        raise ValueError(f"{task} wants TEXT arguments or --input FILE, one of the two")
    if options.input and not options.output:
        raise ValueError("--input wants --output FOLDER, or FILE for one file")
    if options.texts:
        _print(_embedder(task, options, keep=None), options.texts)
        return
    _needs_pyarrow()
    from jaxpool.jobs.claims import shard_of
    from jaxpool.jobs.corpus import Corpus

    if options.shard and options.claim:
        raise ValueError("--shard and --claim both say who does what: choose one")
    corpus = Corpus(
        inputs=options.input or [],
        output=options.output or "",
        kind=f".{options.format.removeprefix('.')}",
        shard=shard_of(options.shard) if options.shard else None,
        claim=options.claim,
        chunk=options.chunk,
        seconds=options.heartbeat,
    )
    keep = None if options.keep == "*" else [n for n in options.keep.split(",") if n]
    told = corpus.run(_embedder(task, options, keep))
    typer.echo(told["line"], err=True)
    typer.echo(
        f"{told['rows']:,} rows in {told['parts']} of {told['of']} parts -> {options.output}",
        err=True,
    )


def _embedder(task: str, options: Options, keep: list[str] | None) -> Any:
    from jaxpool.jobs.embedder import Embedder

    column = options.column.split(",") if task == "score" else options.column
    if column == ["text"]:
        column = ["query", "document"]
    given = {name: getattr(options, name) for name in (*CALL, *LOAD)}
    given = {name: value for name, value in given.items() if value is not None}
    if options.hf_overrides:
        given["hf_overrides"] = _json("--hf-overrides", options.hf_overrides)
    return Embedder(
        options.model,
        options.task or task,
        column,
        modality=options.modality,
        keep=keep,
        precision=options.precision,
        dtype=options.dtype,
        truncate=options.truncate,
        on_error=options.on_error,
        aggregation=options.aggregation,
        **given,
    )


def _print(embedder: Any, texts: list[str]) -> None:
    """The answers to texts as JSON lines; of scores, the first is the query."""
    columns = embedder.columns
    if len(columns) > 1:
        rows = [dict(zip(columns, (texts[0], other), strict=True)) for other in texts[1:]]
    else:
        rows = [{columns[0]: text} for text in texts]
    for row in embedder(rows):
        typer.echo(json.dumps(row, default=_plain, ensure_ascii=False))


def _plain(array: Any) -> Any:
    """An array as JSON; as many digits as float32 has."""
    if array.dtype.kind != "f":
        return array.tolist()
    return [_plain(row) for row in array] if array.ndim > 1 else [float(f"{x:.8g}") for x in array]


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} is not JSON: {error}") from error


def _needs_pyarrow() -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError("corpora of files: pip install 'jaxpool[corpora]'") from error


def command(task: str, help: str) -> Callable:
    """The function of a command: its signature is `Options`."""

    def call(**given: Any) -> None:
        run(task, Options(**given))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(
            field.name,
            kind,
            annotation=field.type,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
        )
        for field in fields(Options)
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__ = f"""{help}

    Texts print as JSON lines. Files stream, in constant memory, each into a part of --output; a
    command that was interrupted goes on where it stopped when it is run again.
    """
    return call


COMMANDS = {
    "embed": "Embed texts, or files of them.",
    "classify": "Class probabilities and labels of texts, or of files of them.",
    "score": "Scores of a query with documents, or of the two columns of files.",
    "encode": "Run any --task on texts, or on files of them.",
}


def register(app: typer.Typer) -> None:
    """Add the commands over rows to the `jaxpool` command."""
    for task, help in COMMANDS.items():
        app.command(task)(command(task, help))
    app.command("run-batch")(run_batch)


def run_batch(
    model: Annotated[str, Argument(help="A folder, a Hub id, or pkg://package/path.")],
    input: Annotated[str, Option("--input", "-i", help="A .jsonl file or URL of requests.")],
    output: Annotated[str, Option("--output", "-o", help="A .jsonl file or URL of answers.")],
    served_model_name: Annotated[
        list[str] | None, Option(help="Names that requests call the model by (default: MODEL).")
    ] = None,
    concurrency: Annotated[int, Option(help="Requests at once.")] = 256,
    dtype: Annotated[str, Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    max_model_len: Annotated[int | None, Option(help="A limit below the model's own.")] = None,
):
    """Answer OpenAI's batch lines (custom_id, method, url, body) as the server would."""
    from serving.batch import run_file

    given = {"served_model_name": served_model_name or [], "dtype": dtype}
    told = run_file(model, input, output, concurrency, max_model_len=max_model_len, **given)
    print(f"{told.answered:,} answers, {told.failed:,} errors -> {output}", file=sys.stderr)
