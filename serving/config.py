"""Options of `jaxpool serve`: flags, `JAXPOOL_*` variables, a YAML file; in this order."""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    CliPositionalArg,
    CliSettingsSource,
    NoDecode,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

SUFFIXES = {"k": 1000, "m": 1000**2, "K": 1024, "M": 1024**2}


def _length(value: Any) -> Any:
    """8k is 8000, 1K is 1024, auto and -1 are the checkpoint's own."""
    if value in ("auto", "-1", -1):
        return None
    if isinstance(value, str) and value and value[-1] in SUFFIXES:
        return int(float(value[:-1]) * SUFFIXES[value[-1]])
    return value


def _list(value: Any) -> Any:
    """JSON or commas, where the value comes from the environment."""
    if isinstance(value, str):
        return json.loads(value) if value.startswith("[") else value.split(",")
    return value


def _cluster(value: Any) -> Any:
    """auto is True; JSON is the arguments of `jax.distributed.initialize`."""
    if isinstance(value, str):
        return True if value == "auto" else json.loads(value)
    return value


class LoraModule(BaseModel):
    """A LoRA adapter that requests choose by its name; of the first model if none is named."""

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    base_model_name: str | None = None


def _modules(value: Any) -> Any:
    """Each as name=path or as vLLM's JSON, with commas between them; or a list of those."""
    if isinstance(value, str):
        whole = value.startswith("[")
        value = json.loads(value) if whole else re.findall(r"\{[^}]*\}|[^,]+", value)
    return [_module(one) if isinstance(one, str) else one for one in value]


def _module(text: str) -> Any:
    if text.startswith("{"):
        return json.loads(text)
    name, _, path = text.partition("=")
    return {"name": name, "path": path}


Cluster = Annotated[Any, NoDecode, BeforeValidator(_cluster)]
List = Annotated[list[str], NoDecode, BeforeValidator(_list)]
Modules = Annotated[list[LoraModule], NoDecode, BeforeValidator(_modules)]
Length = Annotated[int | None, BeforeValidator(_length)]


class Options(BaseSettings):
    """Serve pooling models over HTTP, by vLLM's API."""

    model_config = SettingsConfigDict(
        env_prefix="JAXPOOL_",
        cli_prog_name="jaxpool serve",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        extra="forbid",
    )

    models: CliPositionalArg[List] = Field(
        [], description="checkpoints: folders, Hub ids, pkg://package/path"
    )
    config: str | None = Field(None, description="a YAML file of these options")
    host: str = Field("0.0.0.0", description="address to listen on")
    port: int = Field(
        default_factory=lambda: int(os.environ.get("AIP_HTTP_PORT", 8000)),
        description="port to listen on (8000, or what Vertex AI says in AIP_HTTP_PORT)",
    )
    uds: str | None = Field(None, description="Unix socket to listen on instead")
    root_path: str = Field("", description="path prefix behind a proxy")
    api_key: List = Field([], description="accepted keys; repeatable")
    served_model_name: List = Field([], description="names clients use; the first is reported")
    max_model_len: Length = Field(None, description="longest input in tokens (8k, 1K, auto)")
    dtype: str = Field("auto", description="auto, float32, bfloat16, float16")
    revision: str | None = Field(None, description="Hub revision")
    hf_overrides: dict[str, Any] = Field({}, description="JSON merged into config.json")
    pooler_config: dict[str, Any] = Field({}, description="JSON of PoolerConfig fields")
    runner: Literal["auto", "pooling"] = Field("auto", description="kept for vLLM's command lines")
    convert: Literal["auto", "none", "embed", "classify", "decide"] = Field(
        "auto", description="adapt a checkpoint to a task"
    )
    trust_remote_code: bool = Field(False, description="accepted; checkpoint code never runs")
    chat_template: str | None = Field(None, description="a file, or the template itself")
    default_prompt_name: str | None = Field(
        None, description="the checkpoint's prompt for texts that come without one"
    )
    trust_request_chat_template: bool = Field(False, description="let requests bring templates")
    allowed_media_domains: List = Field(
        [], description='hosts whose images are fetched by http(s) ("*": every public one)'
    )
    allowed_local_media_path: str = Field("", description="the folder of file: URLs of images")
    limit_mm_per_prompt: dict[str, Any] = Field({}, description='JSON: {"image": most a prompt}')
    mm_processor_kwargs: dict[str, Any] = Field(
        {}, description="JSON merged into preprocessor_config.json"
    )
    mm_processor_cache_gb: float = Field(
        0, ge=0, description="GiB of memory for patches and vectors of images seen before"
    )
    trust_request_mm_kwargs: bool = Field(
        False, description="let requests bring mm_processor_kwargs"
    )
    add_eos_token: bool | None = Field(
        None, description="put the end-of-text token after each text (by the files if not given)"
    )
    quantization: str | None = Field(None, description="int8, fp8, or either with _weight_only")
    enable_lora: bool = Field(False, description="let requests choose LoRA adapters as their model")
    lora_modules: Modules = Field([], description='adapters: name=path, or {"name", "path", ...}')
    max_loras: int = Field(1, description="most adapters at a time; at least those named", ge=1)
    max_lora_rank: int = Field(16, description="highest rank of an adapter", ge=1)
    allow_runtime_lora_updating: bool = Field(
        False, description="let those with a key load adapters of the server's folders"
    )
    batch_invariant: bool = Field(False, description="bit-identical results whatever the load")
    tensor_parallel_size: int = Field(1, description="devices that share each layer (-tp)")
    data_parallel_size: int | None = Field(None, description="copies of the model (-dp)")
    api_workers: int | None = Field(
        None, description="processes that speak HTTP (by the cores if not given)", ge=1
    )
    replicas: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        1, description="processes that have the model, each on chips of its own; auto: one a chip"
    )
    distributed: Cluster = Field(
        None, description="one server of several processes: auto, or jax.distributed's JSON"
    )
    max_num_batched_tokens: Length = Field(None, description="tokens a batch")
    max_queued_tokens: int = Field(500_000, description="beyond it, 429", ge=1)
    max_body_bytes: int = Field(32 * 1024**2, description="larger bodies are refused", ge=1)
    batch_folder: str | None = Field(
        None, description="where /v1/files and /v1/batches keep their files; none: no such routes"
    )
    max_file_bytes: int = Field(200 * 1024**2, description="largest file of /v1/files", ge=1)
    request_read_timeout: float = Field(20.0, description="seconds a client has to send a request")
    drain_timeout: float = Field(30.0, description="seconds to finish after SIGTERM")
    health_timeout: float = Field(4.0, description="seconds until a silent engine counts as stuck")
    allowed_origins: List = Field([], description="CORS origins")
    allowed_methods: List = Field(["*"], description="CORS methods")
    allowed_headers: List = Field(["*"], description="CORS headers")
    allow_credentials: bool = Field(False, description="CORS credentials")
    ssl_keyfile: str | None = Field(None, description="TLS key")
    ssl_certfile: str | None = Field(None, description="TLS certificate")
    ssl_ca_certs: str | None = Field(None, description="CA certificates for client certificates")
    ssl_cert_reqs: int = Field(0, description="see the ssl module")
    ssl_ciphers: str = Field("TLSv1", description="see the ssl module")
    enable_request_id_headers: bool = Field(False, description="answer with X-Request-Id")
    enable_server_load_tracking: bool = Field(False, description="count requests for /load")
    disable_fastapi_docs: bool = Field(False, description="no /docs and /openapi.json")
    ui: bool = Field(True, description="a page at / to try the models in a browser")
    log_format: Literal["text", "json"] = Field("text", description="how logs are written")
    uvicorn_log_level: str = Field("info", description="log level")
    enable_log_requests: bool = Field(False, description="log each request's id, route and time")
    otlp_traces_endpoint: str | None = Field(None, description="OpenTelemetry collector")
    warmup: Literal["all", "some", "none"] = Field(
        "all", description="shapes compiled at start: all tasks, the default task, none"
    )
    compiled: str | None = Field(
        None, description="a folder of `jaxpool compile` (machine code: your own) to start from"
    )

    @model_validator(mode="after")
    def _check_lora(self):
        if (self.lora_modules or self.allow_runtime_lora_updating) and not self.enable_lora:
            raise ValueError("adapters need --enable-lora")
        if self.allow_runtime_lora_updating and not self.api_key:
            raise ValueError("--allow-runtime-lora-updating needs an --api-key")
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
    ):
        """Flags come first, then the environment, then the file that either of them names."""
        return init_settings, env_settings, _File(settings_cls)


class _File(YamlConfigSettingsSource):
    """The YAML file that `config` of a stronger source names."""

    def __init__(self, settings_cls):
        super().__init__(settings_cls)

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("config")
        values = self._read_file(Path(path)) if path else {}
        values = {name.replace("-", "_"): value for name, value in values.items()}
        if "model" in values:
            values["models"] = values.pop("model")
        return values


LISTS = {"api_key", "served_model_name", "lora_modules", "allowed_media_domains"}
LISTS |= {"allowed_origins", "allowed_methods", "allowed_headers"}
SHORT = {"-tp": "--tensor-parallel-size", "-dp": "--data-parallel-size"}
SHORT |= {"--mm-cache-gb": "--mm-processor-cache-gb"}


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Options of a command line; exits with a message on a bad one."""
    arguments = normalize(sys.argv[1:] if arguments is None else arguments)
    source: CliSettingsSource[Options] = CliSettingsSource(Options, cli_parse_args=arguments)
    try:
        options = Options(_cli_settings_source=source)
    except ValidationError as error:
        raise SystemExit(f"jaxpool serve: {error}") from None
    if not options.models:
        raise SystemExit("jaxpool serve: name at least one model")
    return options


def normalize(arguments: Sequence[str]) -> list[str]:
    """vLLM's spellings in pydantic's: `--a_b`, `-tp`, `--list x y`, `--table.field value`."""
    found: list[str] = []
    repeat = None
    given = iter(arguments)
    for argument in given:
        if not argument.startswith("-") or argument.lstrip("-").isdigit():
            found += [repeat, argument] if repeat and found[-1] != repeat else [argument]
            continue
        name, equals, value = SHORT.get(argument, argument).partition("=")
        name, _, field = name.partition(".")
        name = name.replace("_", "-")
        repeat = name if name[2:].replace("-", "_") in LISTS and not equals else None
        if field:
            found += [name, _nested(field, value if equals else next(given, ""))]
        else:
            found.append(name + equals + value)
    return found


def _nested(path: str, text: str) -> str:
    """The JSON of `--table.path text`."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for name in reversed(path.split(".")):
        value = {name: value}
    return json.dumps(value)
