"""The application: routes, middleware and the service behind them."""

from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serving import errors
from serving.config import Options
from serving.middleware import Keys, Limits, Observe
from serving.routes import cohere, embeddings, hub, invocations, scoring, utility
from serving.service import Service
from serving.tracing import Trace, exporter


def create_app(options: Options, service: Service | None = None) -> FastAPI:
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
    for module in (embeddings, cohere, scoring, hub, invocations, utility):
        app.router.routes.extend(module.router.routes)
    errors.install(app)
    _wrap(app, options, service)
    return app


def _wrap(app: FastAPI, options: Options, service: Service) -> None:
    """Middleware, the innermost first."""
    app.add_middleware(Limits, size=options.max_body_bytes, seconds=options.request_read_timeout)
    if options.api_key:
        app.add_middleware(Keys, keys=options.api_key)
    if options.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=options.allowed_methods,
            allow_headers=options.allowed_headers,
            allow_credentials=options.allow_credentials,
        )
    if options.otlp_traces_endpoint:
        app.add_middleware(Trace, tracer=exporter(options.otlp_traces_endpoint))
    app.add_middleware(Observe, service=service, options=options)
