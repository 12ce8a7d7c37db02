"""Spans of calls, by OpenTelemetry, when an exporter is set; nothing at all when none is.

Owns whether this process traces, the spans of calls in both directions, and how their context
travels: in the call's metadata, by W3C `traceparent`. Must not put an id of a person, order or
reservation into a span, nor import OpenTelemetry before it is switched on. Who traces says so at
its start, before it opens a server or a client; see `docs/operating/monitoring.md`.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    Pairs = Sequence[tuple[str, str | bytes]]

__all__ = [
    "TracingError",
    "client_span",
    "is_followed",
    "is_on",
    "start",
    "stop",
    "tell",
    "traced",
    "traced_async",
]

ENDPOINT_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_STOP_MILLISECONDS: Final = 2_000
_NOT_OK: Final = 2  # StatusCode.ERROR of OpenTelemetry, whose import this module may not need.


class TracingError(OSError):
    """Tracing was asked for and cannot be; says what to do."""


class _Tracing:
    """What a process that traces has.

    Args:
        tracer: Makes spans.
        provider: Sends them.
        api: The modules of OpenTelemetry that are needed after the start.
    """

    def __init__(self, tracer: Any, provider: Any, api: Any, propagator: Any) -> None:
        self.tracer = tracer
        self.provider = provider
        self.api = api
        self.propagator = propagator


# One for the process, set before the first call and cleared after the last.
_on: _Tracing | None = None


def start(
    service_name: str, *, endpoint: str = "", environment: Mapping[str, str] | None = None
) -> bool:
    """Switches tracing on if an exporter is set.

    Args:
        service_name: Of the resource, unless OTEL_SERVICE_NAME says another.
        endpoint: OTLP over gRPC, such as `http://127.0.0.1:4317`; empty takes it from
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT, and without those
            nothing is traced or imported. The other OTEL_… variables hold as well: sampler,
            headers, certificates, limits.
        environment: Variables; the process's if None.

    Returns:
        Whether this process traces now.

    Raises:
        TracingError: The packages are missing, or another protocol was asked for.
    """
    global _on  # noqa: PLW0603 - one process, one tracer
    variables = os.environ if environment is None else environment
    is_set = endpoint or any(variables.get(name) for name in ENDPOINT_VARIABLES)
    if not is_set or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    protocol = next((variables[name] for name in PROTOCOL_VARIABLES if variables.get(name)), "grpc")
    if protocol != "grpc":
        raise TracingError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; only grpc is spoken, set it to grpc and"
            " the endpoint to the collector's gRPC port (usually 4317)"
        )
    if _on is None:
        _on = _make(service_name, endpoint)
    return True


def _make(service_name: str, endpoint: str) -> _Tracing:
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ModuleNotFoundError as error:
        raise TracingError(
            f"an OTLP endpoint is set and the module {error.name} is missing; install"
            " opentelemetry-sdk and opentelemetry-exporter-otlp-proto-grpc (pip install"
            " 'lastunit[tracing]'), or unset it"
        ) from error
    named = os.environ.get("OTEL_SERVICE_NAME") or service_name
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: named}), shutdown_on_exit=False
    )
    exporter = OTLPSpanExporter(endpoint=endpoint) if endpoint else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    propagator = TraceContextTextMapPropagator()
    return _Tracing(provider.get_tracer("lastunit"), provider, trace, propagator)


def stop() -> None:
    """Sends what is left, for at most two seconds, and switches tracing off."""
    global _on
    ended, _on = _on, None
    if ended is not None:
        ended.provider.force_flush(_STOP_MILLISECONDS)
        ended.provider.shutdown()


def is_on() -> bool:
    """Tells whether this process traces."""
    return _on is not None


def is_followed() -> bool:
    """Tells whether what runs now belongs to a span that is sent."""
    return _on is not None and _on.api.get_current_span().is_recording()


@contextlib.contextmanager
def client_span(method: str) -> Iterator[Pairs]:
    """Spans a call that goes out.

    Args:
        method: gRPC path.

    Yields:
        Metadata that carries the span's context, empty if this process does not trace.
    """
    if _on is None:
        yield ()
        return
    kind = _on.api.SpanKind.CLIENT
    with _on.tracer.start_as_current_span(
        method[1:], kind=kind, attributes=_attributes(method), record_exception=False
    ):
        carrier: dict[str, str] = {}
        _on.propagator.inject(carrier)
        yield tuple(carrier.items())


def traced_async(
    method: str, handle: Callable[[Any, Any], Awaitable[Any]], **attributes: str
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Wraps a unary handler of grpc.aio in a span; returns it as it is if nothing is traced.

    Args:
        method: gRPC path.
        handle: Takes a request and a context.
        attributes: More of the span, with `_` for `.` in their names.
    """
    if _on is None:
        return handle

    async def spanned(request: Any, context: Any) -> Any:
        with _server_span(method, context, attributes):
            return await handle(request, context)

    return spanned


def traced(
    method: str, handle: Callable[[Any, Any], Any], **attributes: str
) -> Callable[[Any, Any], Any]:
    """Wraps a unary handler of a sync server in a span, as `traced_async` does."""
    if _on is None:
        return handle

    def spanned(request: Any, context: Any) -> Any:
        with _server_span(method, context, attributes):
            return handle(request, context)

    return spanned


def tell(
    method: str,
    *,
    begin_ns: int,
    end_ns: int,
    code: int,
    parent: str = "",
    state: str = "",
    **attributes: str,
) -> None:
    """Spans a call that was served without Python; does nothing if this process does not trace.

    Args:
        method: gRPC path.
        begin_ns: When it began, nanoseconds since 1970.
        end_ns: When it ended.
        code: gRPC status code, 0 to 16.
        parent: The caller's `traceparent`; empty or unreadable begins a trace.
        state: The caller's `tracestate`.
        attributes: More of the span, with `_` for `.` in their names.
    """
    if _on is None:
        return
    carrier = {"traceparent": parent, "tracestate": state}
    span = _on.tracer.start_span(
        method[1:],
        context=_on.propagator.extract({name: value for name, value in carrier.items() if value}),
        kind=_on.api.SpanKind.SERVER,
        attributes=_attributes(method) | _dotted(attributes),
        start_time=begin_ns,
    )
    _set_status(span, code)
    span.end(end_ns)


@contextlib.contextmanager
def _server_span(method: str, context: Any, more: Mapping[str, str]) -> Iterator[None]:
    if _on is None:
        yield
        return
    carrier = {
        key: value
        for key, value in context.invocation_metadata() or ()
        if key in ("traceparent", "tracestate") and isinstance(value, str)
    }
    attributes = _attributes(method) | _dotted(more)
    # Exceptions are not recorded: their texts may name persons, and abort raises one.
    with _on.tracer.start_as_current_span(
        method[1:],
        context=_on.propagator.extract(carrier),
        kind=_on.api.SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        finally:
            _note_status(span, context)


def _note_status(span: Any, context: Any) -> None:
    code = context.code()
    # grpc.aio tells a number, the sync server an enum, both nothing for OK.
    _set_status(span, code if isinstance(code, int) else (0 if code is None else code.value[0]))


def _set_status(span: Any, code: int) -> None:
    span.set_attribute("rpc.grpc.status_code", code)
    if code and _on is not None:
        span.set_status(_on.api.StatusCode(_NOT_OK))


def _dotted(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in attributes.items()}


def _attributes(method: str) -> dict[str, str]:
    service, _, name = method[1:].partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
