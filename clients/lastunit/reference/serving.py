"""The reference ledger over gRPC, so that a test-suite in any language can run against it.

Owns one server for every method of StockService, StockAdminService and RehearsalService, and the
events of JournalService. Must not be used to sell, and listens on loopback unless told otherwise.
Time is the machine's, or with `is_clock_manual` whatever RehearsalService.SetClock says.
"""

from __future__ import annotations

import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

import grpc
import protovalidate
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from lastunit.reference.ledger import Ledger
from lastunit.reference.requests import METHODS
from lastunit.reference.words import millis
from lastunit.stock.v1 import fault_pb2, journal_service_pb2, rehearsal_service_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

__all__ = ["ReferenceServer"]

PACKAGE: Final = "lastunit.stock.v1"
THREADS: Final = 16
POLL_SECONDS: Final = 0.01
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
CALLER_KEY: Final = "lastunit-caller"
FIELD_OF_RESPONSE: Final = {
    field.message_type.name: field.name
    for field in stock_pb2.Reply.DESCRIPTOR.oneofs_by_name["response"].fields
    if field.message_type
}


class ReferenceServer:
    """One reference ledger behind a gRPC server.

    Args:
        address: Where to listen, `host:port`; port 0 takes a free one.
        is_clock_manual: Whether time only moves by RehearsalService.SetClock.
        now_ms: First ledger time with a manual clock.

    Attributes:
        address: `host:port` as bound.
        ledger: The ledger; take `lock` before you touch it.
        lock: Held while a request is decided.
    """

    def __init__(
        self, address: str = "127.0.0.1:0", *, is_clock_manual: bool = False, now_ms: int = 0
    ) -> None:
        self.is_clock_manual = is_clock_manual
        start = now_ms if is_clock_manual else time.time_ns() // 1_000_000
        self.ledger = Ledger(now_ms=start, is_journal_kept=True)
        self.lock = threading.Lock()
        self._is_over = threading.Event()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(THREADS, thread_name_prefix="reference"),
            options=(("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),),
        )
        self._server.add_generic_rpc_handlers(self._handlers())
        host = address.rpartition(":")[0]
        self.address = f"{host}:{self._server.add_insecure_port(address)}"

    def start(self) -> None:
        """Begins to serve."""
        self._server.start()

    def stop(self, grace_seconds: float = 1.0) -> None:
        """Ends streams and calls."""
        self._is_over.set()
        self._server.stop(grace_seconds).wait()

    def wait(self) -> None:
        """Waits until the server is stopped."""
        self._server.wait_for_termination()

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        services: dict[str, dict[str, Any]] = {}
        for request, method in METHODS.items():
            is_stock = hasattr(stock_pb2, f"{method.name}Request")
            service = "StockService" if is_stock else "StockAdminService"
            services.setdefault(service, {})[method.name] = grpc.unary_unary_rpc_method_handler(
                self._checked(request, self._unary), None, _bytes_of
            )
        stock = services["StockService"]
        stock["Exchange"] = grpc.stream_stream_rpc_method_handler(self._exchange, None, _bytes_of)
        stock["WatchAvailability"] = grpc.unary_stream_rpc_method_handler(
            self._checked(stock_pb2.WatchAvailabilityRequest, self._watch), None, _bytes_of
        )
        services["JournalService"] = {
            "ReadEvents": grpc.unary_stream_rpc_method_handler(
                self._checked(journal_service_pb2.ReadEventsRequest, self._read_events),
                None,
                _bytes_of,
            )
        }
        if self.is_clock_manual:
            services["RehearsalService"] = {
                "SetClock": grpc.unary_unary_rpc_method_handler(
                    self._checked(rehearsal_service_pb2.SetClockRequest, self._set_clock),
                    None,
                    _bytes_of,
                )
            }
        return tuple(
            grpc.method_handlers_generic_handler(f"{PACKAGE}.{name}", handlers)
            for name, handlers in services.items()
        )

    @staticmethod
    def _checked(kind: Any, serve: Callable[..., Any]) -> Callable[[bytes, Any], Any]:
        """Puts decoding and the protos' rules in front of a method."""
        return lambda body, context: serve(_decode(kind, body, context), context)

    def _tick(self) -> None:
        """Lets ledger time catch up with the machine's; the lock is held."""
        if not self.is_clock_manual:
            self.ledger.advance(time.time_ns() // 1_000_000)

    def _unary(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            self._tick()
            return self.ledger.apply(request, caller=_caller_of(context))

    def _exchange(self, batches: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
        caller = _caller_of(context)
        for body in batches:
            batch = _decode(stock_pb2.ExchangeRequest, body, context)
            with self.lock:
                self._tick()
                replies = [self._reply(operation, caller) for operation in batch.operations]
            yield stock_pb2.ExchangeResponse(exchange_id=batch.exchange_id, replies=replies)

    def _reply(self, operation: Any, caller: str) -> stock_pb2.Reply:
        name = operation.WhichOneof("request")
        request = getattr(operation, name) if name else operation
        violations = _violations_of(request)
        if violations:
            return stock_pb2.Reply(fault=_fault_of(violations))
        response = self.ledger.apply(request, caller=caller)
        return stock_pb2.Reply(**{FIELD_OF_RESPONSE[type(response).DESCRIPTOR.name]: response})

    def _set_clock(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self.lock:
            now = millis(request.now_time)
            if now < self.ledger.now:
                _abort(
                    context,
                    code_pb2.FAILED_PRECONDITION,
                    "the clock stands later already; set it to a later time",
                    error_details_pb2.ErrorInfo(reason="CLOCK_BEHIND", domain="lastunit"),
                )
            last = self.ledger.advance(now)
            response = rehearsal_service_pb2.SetClockResponse()
            response.place.CopyFrom(self.ledger.place())
            response.place.sequence = last
            return response

    def _watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from self._poll(context, request.after_sequence, self._watcher(request))

    def _watcher(self, request: Any) -> Callable[[], Any]:
        shown: dict[str, int] = {}
        asked = stock_pb2.GetAvailabilityRequest(sale_id=request.sale_id, skus=request.skus)

        def look() -> Any:
            found = self.ledger.apply(asked)
            changed = [
                sku for sku in found.availabilities if shown.get(sku.sku) != sku.changed_sequence
            ]
            is_first = not shown
            shown.update({sku.sku: sku.changed_sequence for sku in changed})
            if not changed and not is_first:
                return None
            return stock_pb2.WatchAvailabilityResponse(
                place=found.place, result=found.result, availabilities=changed
            )

        return look

    def _poll(
        self, context: grpc.ServicerContext, after_sequence: int, look: Callable[[], Any]
    ) -> Iterator[Any]:
        """Yields what `look` finds, until it finds a refusal or the call ends."""
        while context.is_active() and not self._is_over.is_set():
            with self.lock:
                self._tick()
                found = look() if self.ledger.sequence >= after_sequence else None
            if found is not None:
                yield found
                if found.result.outcome != 1:
                    return
            time.sleep(POLL_SECONDS)

    def _read_events(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        after = request.after_sequence
        with self.lock:
            if after > self.ledger.sequence:
                _abort(
                    context,
                    code_pb2.OUT_OF_RANGE,
                    "the journal ends before that sequence; start from a lower one",
                    error_details_pb2.ErrorInfo(reason="SEQUENCE_NOT_REACHED", domain="lastunit"),
                )
        is_first = True
        while context.is_active() and not self._is_over.is_set():
            with self.lock:
                self._tick()
                events = self.ledger.events[after : after + request.page_size]
                last, epoch = self.ledger.sequence, self.ledger.epoch
            if events or is_first:
                after = events[-1].sequence if events else after
                yield journal_service_pb2.ReadEventsResponse(
                    events=events, durable_sequence=last, epoch=epoch, first_sequence=1
                )
                is_first = False
            elif not request.follow:
                return
            else:
                time.sleep(POLL_SECONDS)


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


def _decode(kind: Any, body: bytes, context: grpc.ServicerContext) -> Any:
    """Decodes a request and checks it, or ends the call."""
    try:
        request = kind.FromString(body)
    except DecodeError:
        info = error_details_pb2.ErrorInfo(reason="MALFORMED_REQUEST", domain="lastunit")
        message = f"the bytes are no {kind.DESCRIPTOR.name}; encode the request anew"
        _abort(context, code_pb2.INVALID_ARGUMENT, message, info)
        raise
    violations = _violations_of(request)
    if violations:
        _abort_invalid(violations, context)
    return request


def _caller_of(context: grpc.ServicerContext) -> str:
    return str(dict(context.invocation_metadata()).get(CALLER_KEY, ""))


def _violations_of(request: Message) -> list[fault_pb2.FieldViolation]:
    """Checks the rules that the protos declare."""
    return [
        fault_pb2.FieldViolation(
            field=_path_of(violation.proto.field),
            rule=violation.proto.rule_id,
            description=violation.proto.message,
        )
        for violation in protovalidate.collect_violations(request)
    ]


def _path_of(path: Any) -> str:
    pieces = []
    for element in path.elements:
        subscript = element.subscript
        index = f"[{subscript.value}]" if subscript is not None else ""
        pieces.append(element.field_name + index)
    return ".".join(pieces)


def _fault_of(violations: list[fault_pb2.FieldViolation]) -> fault_pb2.Fault:
    return fault_pb2.Fault(
        code=code_pb2.INVALID_ARGUMENT,
        message="a field breaks a rule; correct it and send the request again",
        reason="INVALID_FIELD",
        violations=violations,
    )


def _abort_invalid(
    violations: list[fault_pb2.FieldViolation], context: grpc.ServicerContext
) -> None:
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=violation.field, description=violation.description, reason=violation.rule
            )
            for violation in violations
        ]
    )
    info = error_details_pb2.ErrorInfo(reason="INVALID_FIELD", domain="lastunit")
    fault = _fault_of(violations)
    _abort(context, fault.code, fault.message, info, bad)


def _abort(context: grpc.ServicerContext, code: int, message: str, *details: Message) -> None:
    packed = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        packed.append(box)
    status = status_pb2.Status(code=code, message=message, details=packed)
    context.abort_with_status(rpc_status.to_status(status))
