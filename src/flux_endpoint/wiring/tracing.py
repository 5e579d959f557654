"""Traces by OpenTelemetry, where they are asked for and its packages are installed: an optional extra."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from flux_endpoint import __version__
from flux_endpoint.core.errors import SettingsError
from flux_endpoint.core.tracing import Span, Tracer

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

# With the exporter's own 10 s, a collector that is away holds up the end of a process for longer than it has.
_TIMEOUT_S: Final = 2
_ASKED: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_HEADER: Final = "traceparent"


def make_tracer(otlp_endpoint: str | None, service: str, instance: str) -> Tracer | None:
    """Who sends spans to the collector that a setting or OpenTelemetry's own variables name; None for none.

    Args:
        otlp_endpoint: the setting.
        service: what this process is, where OTEL_SERVICE_NAME does not say.
        instance: tells this process from others of its kind.

    Raises:
        SettingsError: traces are asked for, and OpenTelemetry is not installed.
    """
    asked = "OTLP_ENDPOINT" if otlp_endpoint else next((name for name in _ASKED if os.environ.get(name)), None)
    if asked is None:
        return None
    try:
        # Here and not above: it is an optional part of the installation, and takes a third of a second to import.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        raise SettingsError(
            f"{asked} asks for traces, but OpenTelemetry is not installed; "
            "install it with: pip install 'flux-endpoint[otel]'"
        ) from None
    about = {"service.version": __version__, "service.instance.id": instance}
    if "OTEL_SERVICE_NAME" not in os.environ:
        about["service.name"] = service
    url = None if otlp_endpoint is None else f"{otlp_endpoint.rstrip('/')}/v1/traces"
    provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=_TIMEOUT_S)))
    return OtelTracer(provider)


class OtelTracer:
    """Implements `Tracer` with a provider of OpenTelemetry's."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("flux_endpoint", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(
        self, name: str, parent: str | None, attributes: Mapping[str, str | int], *, is_request: bool = False
    ) -> Span:
        """See `Tracer.begin`."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.SERVER if is_request else SpanKind.INTERNAL
        return _OtelSpan(self._tracer.start_span(name, self._context(parent), kind, attributes))

    def record(
        self, name: str, parent: str, start_ns: int, end_ns: int, attributes: Mapping[str, str | int] | None = None
    ) -> None:
        """See `Tracer.record`."""
        span = self._tracer.start_span(name, self._context(parent), attributes=attributes, start_time=start_ns)
        span.end(end_ns)

    def close(self) -> None:
        """See `Tracer.close`."""
        self._provider.shutdown()

    def _context(self, parent: str | None) -> "Context":
        return self._propagator.extract({} if parent is None else {_HEADER: parent})


class _OtelSpan:
    """Implements `Span`."""

    def __init__(self, span: "trace.Span") -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """See `Span.traceparent`."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, attributes: Mapping[str, str | int] | None = None, problem: str = "") -> None:
        """See `Span.end`."""
        from opentelemetry.trace import Status, StatusCode

        self._span.set_attributes(attributes or {})
        if problem:
            self._span.set_attribute("error.type", problem)
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()
