"""The application: routes, what every request passes before them, the service behind them."""

from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serving import errors
from serving.batches import Batches
from serving.config import Options
from serving.direct import Direct
from serving.middleware import Keys, Limits, Observe
from serving.routes import (
    cohere,
    decisions,
    embeddings,
    files,
    hub,
    invocations,
    loras,
    nim,
    ollama,
    page,
    scoring,
    shared,
    tei,
    utility,
    vertex,
)
from serving.service import Service
from serving.store import Store
from serving.tracing import Trace, exporter


def create_app(options: Options, service: Service | None = None) -> ASGIApp:
    """The ASGI application of `jaxpool serve`; its models load while it already listens."""
    service = service or Service(options)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        await service.begin()
        if service.batches:
            service.batches.start()
        yield
        if service.batches:
            await service.batches.stop()
        await service.stop()

    extra: dict = {"openapi_url": None} if options.disable_fastapi_docs else {}
    # Traces and metrics are our own; FastAPI's would look for a provider at every request.
    extra["telemetry"] = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="jaxpool", lifespan=lifespan, **extra)
    app.state.service = service
    for module in (
        embeddings,
        cohere,
        scoring,
        decisions,
        hub,
        tei,
        ollama,
        nim,
        invocations,
        utility,
        shared,
    ):
        app.router.routes.extend(module.router.routes)
    app.router.routes.extend(vertex.router().routes)
    updating = options.allow_runtime_lora_updating
    for module, asked in ((page, options.ui), (files, options.batch_folder), (loras, updating)):
        if asked:
            app.router.routes.extend(module.router.routes)
    errors.install(app)
    return _wrap(app, options, service)


def _wrap(app: FastAPI, options: Options, service: Service) -> ASGIApp:
    """Middleware, the innermost first, around the application and not inside of it.

    So a request for a route of `Direct` meets none of FastAPI's own layers.
    """
    direct = Direct(app)
    limits = options.max_body_bytes, options.request_read_timeout
    wrapped: ASGIApp = Limits(direct, *limits, {files.UPLOAD: options.max_file_bytes})
    if options.batch_folder:
        store, inner = Store(options.batch_folder), Observe(wrapped, service, options)
        ours = {files.BATCHES, loras.LOAD, loras.UNLOAD}  # a folder's batches are any server's
        service.batches = Batches(store, inner, direct.routes.keys() - ours)
    if options.api_key:
        wrapped = Keys(wrapped, options.api_key, page.STATIC if options.ui else ())
    if options.allowed_origins:
        wrapped = CORSMiddleware(
            wrapped,
            allow_origins=options.allowed_origins,
            allow_methods=options.allowed_methods,
            allow_headers=options.allowed_headers,
            allow_credentials=options.allow_credentials,
        )
    if options.otlp_traces_endpoint:
        wrapped = Trace(wrapped, exporter(options.otlp_traces_endpoint))
    return Observe(wrapped, service, options)
