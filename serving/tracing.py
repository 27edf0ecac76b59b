"""OpenTelemetry: one span a request, sent to the collector of `--otlp-traces-endpoint`."""

from serving.middleware import header


def exporter(endpoint: str):
    """A tracer that sends to an OTLP endpoint over HTTP."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "jaxpool"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return provider.get_tracer("jaxpool.serving")


class Trace:
    """Wraps every request in a span that continues the caller's trace."""

    def __init__(self, app, tracer):
        self.app, self.tracer = app, tracer

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = {"traceparent": header(scope, b"traceparent").decode("latin-1")}
        context = TraceContextTextMapPropagator().extract(parent)
        name = f"{scope['method']} {scope['path']}"
        with self.tracer.start_as_current_span(name, context, SpanKind.SERVER) as span:

            async def observed(message):
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    for key, value in message["headers"]:
                        if key in (b"x-queue-time", b"x-inference-time", b"x-tokens"):
                            span.set_attribute(f"jaxpool.{key.decode()[2:]}", float(value))
                await send(message)

            await self.app(scope, receive, observed)
