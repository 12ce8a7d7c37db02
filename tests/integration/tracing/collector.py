"""An OpenTelemetry collector that keeps what it is sent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)


@dataclass(frozen=True)
class Span:
    """One span as it was sent."""

    service: str
    name: str
    kind: int
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    attributes: dict[str, Any]
    events: int
    begin_ns: int
    end_ns: int


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]
    """Serves OTLP over gRPC on a free port."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._spans: list[Span] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by the contract
        """Takes spans."""
        with self._changed:
            for resource in request.resource_spans:
                named = {each.key: each.value for each in resource.resource.attributes}
                service = named["service.name"].string_value
                for scope in resource.scope_spans:
                    self._spans += [_span(service, span) for span in scope.spans]
            self._changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self) -> list[Span]:
        """Returns what has come so far."""
        with self._changed:
            return list(self._spans)

    def close(self) -> None:
        """Ends it."""
        self._server.stop(None).wait()


def _span(service: str, span: Any) -> Span:
    values = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
    return Span(
        service,
        span.name,
        span.kind,
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        values,
        len(span.events),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )
