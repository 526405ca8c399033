"""Send traces and metrics to OpenTelemetry, where the policy asks for it.

Where they go, how often, and which requests are sampled is said by the standard variables, such as
OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_TRACES_SAMPLER. Spans hold method, status and the request's ID:
no path, no address, nothing of a record. Metrics are those of Prometheus under the same names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.alerting.prometheus import Metrics
from memberscope.guard.asgi.asgi_types import App, Message, Receive, Scope, Send
from memberscope.guard.logs.request_id import REQUEST_ID
from memberscope.guard.policy.tables import TelemetryConfig

CARRIED = (b"traceparent", b"tracestate")
SCOPE = "memberscope.guard"


class Telemetry:
    """Trace requests and export metrics by the providers of an OpenTelemetry SDK; either may be None."""

    def __init__(self, tracers: Any, meters: Any) -> None:
        """Take what sends."""
        self._providers = [entry for entry in (tracers, meters) if entry is not None]
        self._tracer = None if tracers is None else tracers.get_tracer(SCOPE)
        self._meter = None if meters is None else meters.get_meter(SCOPE)

    async def trace(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request by `app` in a span, whose parent is what the client sent as traceparent."""
        if self._tracer is None or scope["type"] != "http":
            await app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        sent = {
            name.lower().decode("ascii"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.lower() in CARRIED
        }
        about = {
            "http.request.method": scope["method"],
            "url.scheme": scope["scheme"],
            "memberscope.request_id": REQUEST_ID.get(),
        }
        # An exception's text may quote an input
        with self._tracer.start_as_current_span(
            scope["method"],
            context=propagator.extract(sent),
            kind=SpanKind.SERVER,
            attributes=about,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:

            async def seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            onward: dict[str, str] = {}
            propagator.inject(onward)
            kept = [pair for pair in scope["headers"] if pair[0].lower() not in CARRIED]
            added = [(name.encode(), value.encode("latin-1")) for name, value in onward.items()]
            await app({**scope, "headers": [*kept, *added]}, receive, seen)

    def export(self, metrics: Metrics) -> None:
        """Export every counter and gauge of a registry of Prometheus, and the sums of histograms."""
        if self._meter is None:
            return
        registry = metrics.registry
        for family in registry.collect():
            rising = family.type in ("counter", "histogram")
            make = (
                self._meter.create_observable_counter
                if rising
                else self._meter.create_observable_gauge
            )
            endings = {"counter": ("_total",), "histogram": ("_count", "_sum")}
            for ending in endings.get(family.type, ("",)):
                name = family.name + ending
                make(name, [_observe_samples(registry, name)], description=family.documentation)

    async def stop(self) -> None:
        """Send what waits."""
        for provider in self._providers:
            # Sending takes as long as the receiver does
            await asyncio.to_thread(provider.shutdown)


def _observe_samples(registry: Any, name: str) -> Callable[[Any], Iterator[Any]]:
    """Give what OpenTelemetry calls to observe the samples of one name."""

    def observe(options: Any) -> Iterator[Any]:
        from opentelemetry.metrics import Observation

        for family in registry.collect():
            for sample in family.samples:
                if sample.name == name:
                    yield Observation(sample.value, dict(sample.labels))

    return observe


def build_telemetry(config: TelemetryConfig) -> Telemetry | None:
    """Build what [telemetry] asks for, None where it asks for nothing.

    Raises:
        InputError: The packages of the extra `otel` are missing.

    >>> build_telemetry(TelemetryConfig()) is None
    True
    """
    if not (config.traces or config.metrics):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InputError(
            f"Expected {error.name} for [telemetry], got none. Run pip install 'memberscope[otel]'."
        ) from error
    resource = Resource.create({"service.name": config.service})
    tracers = meters = None
    if config.traces:
        tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if config.metrics:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        meters = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    return Telemetry(tracers, meters)
