"""Recorded calls opened up into single operations, each with its request, its reply and its place.

Owns the taking apart. Must not judge. Next: `order.py`, which puts them in order and replays them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import message_factory

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .calls import EXCHANGE, METHODS, REFUSED, UNKNOWN, Call

if TYPE_CHECKING:
    from collections.abc import Iterable

_SERVICES: Final = (
    stock.DESCRIPTOR.services_by_name["StockService"],
    admin.DESCRIPTOR.services_by_name["StockAdminService"],
)
_TYPES: Final = {
    method.name: (
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )
    for service in _SERVICES
    for method in service.methods
    if method.name in METHODS
}
# The load has invalid operations, and a server that ends turns operations away.
_FAULTS: Final = frozenset(
    code.value[0] for code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE)
)
# What changes nothing: an operation of these kinds that was never answered left no trace.
READS: Final = frozenset(
    {"GetReservationRequest", "ListReservationsRequest", "GetAvailabilityRequest", "AuditRequest"}
)


@dataclass(slots=True)
class Step:
    """One operation that was answered.

    Attributes:
        order: `(epoch, op_number)` as the reply claims it.
        call_ns: When its call was sent.
        return_ns: When the answer was there.
        client: Who asked.
        request: The request message.
        reply: The response message.
    """

    order: tuple[int, int]
    call_ns: int
    return_ns: int
    client: int
    request: Any
    reply: Any


@dataclass(slots=True)
class Lost:
    """One operation that was sent and never answered."""

    call_ns: int
    client: int
    request: Any


@dataclass
class History:
    """The operations of one round.

    Attributes:
        steps: Those with an answer and a place, in the order of their places.
        lost: Those without an answer, in the order in which they were sent.
        fault_count: Those that the server said it did not decide.
        strange_faults: Those among them that nothing here asks for.
    """

    steps: list[Step] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    fault_count: int = 0
    strange_faults: list[str] = field(default_factory=list)


def identity(request: Any) -> str:
    """Returns the id by which a changing command is known in the journal; empty for a question."""
    kind = type(request).__name__
    if kind == "ReserveRequest":
        return f"reservation {request.reservation_id}"
    if kind == "BeginPaymentRequest":
        return f"attempt {request.attempt_id}"
    return "" if kind in READS else f"request {request.request_id}"


def event_identity(event: Any) -> str:
    """Returns the id of the command that wrote an event; empty for timers and the node itself."""
    if event.request_id:
        return f"request {event.request_id}"
    body = event.WhichOneof("body")
    if body == "reserved":
        return f"reservation {event.reservation_id}"
    return f"attempt {event.payment_begun.attempt_id}" if body == "payment_begun" else ""


def could_write(request: Any, event: Any) -> bool:
    """Tells whether an event fits a request of its id: an id may have been sent with two contents.

    The load alters persons, reservations and amounts when it sends an id again.
    """
    body = event.WhichOneof("body")
    if body == "reserved":
        return bool(request.person_id == event.reserved.person_id)
    if body == "payment_begun":
        begun = event.payment_begun
        asked, told = ((it.provider, it.amount_minor, it.currency) for it in (request, begun))
        return bool(request.reservation_id == event.reservation_id and asked == told)
    fields = request.DESCRIPTOR.fields_by_name
    return "reservation_id" not in fields or request.reservation_id == event.reservation_id


def open_calls(calls: Iterable[Call]) -> History:
    """Opens recorded calls up, in whatever order they come."""
    history = History()
    for call in calls:
        if call.method == EXCHANGE:
            _open_batch(history, call)
        elif call.return_ns == REFUSED:
            history.fault_count += 1
        else:
            _open_single(history, call)
    history.steps.sort(key=lambda step: step.order)
    history.lost.sort(key=lambda lost: lost.call_ns)
    return history


def _open_single(history: History, call: Call) -> None:
    request_type, reply_type = _TYPES[call.method]
    request: Any = request_type.FromString(call.request)
    if call.return_ns == UNKNOWN:
        history.lost.append(Lost(call.call_ns, call.client, request))
        return
    _add(history, call, request, reply_type.FromString(call.reply))


def _open_batch(history: History, call: Call) -> None:
    batch = stock.ExchangeRequest.FromString(call.request)
    requests = [_inner(operation, "request") for operation in batch.operations]
    if call.return_ns == UNKNOWN:
        history.lost.extend(Lost(call.call_ns, call.client, request) for request in requests)
        return
    answer = stock.ExchangeResponse.FromString(call.reply)
    if answer.exchange_id != batch.exchange_id or len(answer.replies) != len(requests):
        raise ValueError(f"client {call.client} got the answer of another batch")
    for request, reply in zip(requests, answer.replies, strict=True):
        if reply.WhichOneof("response") == "fault":
            history.fault_count += 1
            if reply.fault.code not in _FAULTS:
                history.strange_faults.append(f"client {call.client} got {reply.fault}")
        else:
            _add(history, call, request, _inner(reply, "response"))


def _add(history: History, call: Call, request: Any, reply: Any) -> None:
    place = reply.place
    order = (place.epoch, place.op_number)
    history.steps.append(Step(order, call.call_ns, call.return_ns, call.client, request, reply))


def _inner(message: Any, oneof: str) -> Any:
    return getattr(message, message.WhichOneof(oneof))
