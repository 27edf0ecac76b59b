"""The application: routes, what every request passes before them, the service behind them."""

from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from serving import errors
from serving.config import Options
from serving.direct import Direct
from serving.middleware import Keys, Limits, Observe
from serving.routes import (
    cohere,
    embeddings,
    hub,
    invocations,
    nim,
    ollama,
    page,
    scoring,
    tei,
    utility,
    vertex,
)
from serving.service import Service
from serving.tracing import Trace, exporter


def create_app(options: Options, service: Service | None = None) -> ASGIApp:
    """The ASGI application of `jaxpool serve`; its models load while it already listens."""
    service = service or Service(options)

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        service.start()
        yield
        await service.stop()

    extra: dict = {"openapi_url": None} if options.disable_fastapi_docs else {}
    # Traces and metrics are our own; FastAPI's would look for a provider at every request.
    extra["telemetry"] = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="jaxpool", lifespan=lifespan, **extra)
    app.state.service = service
    for module in (embeddings, cohere, scoring, hub, tei, ollama, nim, invocations, utility):
        app.router.routes.extend(module.router.routes)
    app.router.routes.extend(vertex.router().routes)
    if options.ui:
        app.router.routes.extend(page.router.routes)
    errors.install(app)
    return _wrap(app, options, service)


def _wrap(app: FastAPI, options: Options, service: Service) -> ASGIApp:
    """Middleware, the innermost first, around the application and not inside of it.

    So a request for a route of `Direct` meets none of FastAPI's own layers.
    """
    wrapped: ASGIApp = Limits(Direct(app), options.max_body_bytes, options.request_read_timeout)
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
