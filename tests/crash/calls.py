"""Every changing call of the contract: where it is sent, what its id is, which event it leaves.

Owns the table of kinds. Must not: choose what to send (`client.py`) or judge an answer
(`claims.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    import grpc
    from google.protobuf.message import Message

STOCK = "lastunit.stock.v1.StockService"
ADMIN = "lastunit.stock.v1.StockAdminService"


@dataclass(frozen=True)
class Kind:
    """One method: its messages, and its field in an `Operation` if Exchange takes it."""

    name: str
    service: str
    response: Any
    field: str = ""

    @property
    def path(self) -> str:
        """Returns the full gRPC path."""
        return f"/{self.service}/{self.name}"


def _stock(name: str, field: str) -> Kind:
    return Kind(name, STOCK, getattr(stock, f"{name}Response"), field)


def _admin(name: str) -> Kind:
    return Kind(name, ADMIN, getattr(admin, f"{name}Response"))


CLAIM_KINDS = [
    _stock("Reserve", "reserve"),
    _stock("BeginPayment", "begin_payment"),
    _stock("SettlePayment", "settle_payment"),
    _stock("Confirm", "confirm"),
    _stock("Release", "release"),
    _stock("Extend", "extend"),
    _stock("Return", "return_units"),
    _stock("RecordRefund", "record_refund"),
]
ADMIN_KINDS = [
    _admin("PutSale"),
    _admin("SetSaleState"),
    _admin("PutPool"),
    _admin("SupplyStock"),
    _admin("WithdrawStock"),
    _admin("AdjustStock"),
    _admin("MoveStock"),
    _admin("PourBuffer"),
    _admin("ReleaseUnverified"),
    _admin("MergePersons"),
    _admin("SplitPersons"),
    _admin("SetExpiryBrake"),
]
READ_KINDS = [
    _stock("GetReservation", "get_reservation"),
    _stock("GetAvailability", "get_availability"),
]
KINDS = {kind.name: kind for kind in [*CLAIM_KINDS, *ADMIN_KINDS, *READ_KINDS]}
CHANGING = [kind.name for kind in [*CLAIM_KINDS, *ADMIN_KINDS]]


@dataclass(eq=False)
class Call:
    """One call under one id, with its first answer once that is known."""

    kind: Kind
    request: Any
    first: Any = None

    @property
    def key(self) -> str:
        """Returns the id that makes it one call, as the journal shows it; empty for reads."""
        return call_key(self.kind.name, self.request)

    @property
    def sequence(self) -> int:
        """Returns where its event is; 0 if there is none, or none is known."""
        return int(self.first.place.sequence) if self.first is not None else 0

    def operation(self) -> stock.Operation:
        """Returns it as a part of an Exchange."""
        return stock.Operation(**{self.kind.field: self.request})

    def send(self, channel: grpc.Channel, seconds: float) -> Any:
        """Sends it by itself.

        Args:
            channel: Of the listener that serves it.
            seconds: Deadline.

        Raises:
            grpc.RpcError: No answer, or a fault.
        """
        serve = channel.unary_unary(
            self.kind.path,
            request_serializer=type(self.request).SerializeToString,
            response_deserializer=self.kind.response.FromString,
        )
        return serve(self.request, timeout=seconds)


def call_key(name: str, request: Any) -> str:
    """Names a call as `event_key` names its event."""
    if name == "Reserve":
        return f"reservation {request.reservation_id}"
    if name == "BeginPayment":
        return f"attempt {request.attempt_id}"
    return (
        f"request {request.request_id}" if "request_id" in request.DESCRIPTOR.fields_by_name else ""
    )


def event_key(event: Any) -> str:
    """Names the call that an event comes from; empty for the node's own."""
    if event.request_id:
        return f"request {event.request_id}"
    if event.HasField("reserved"):
        return f"reservation {event.reservation_id}"
    if event.HasField("payment_begun"):
        return f"attempt {event.payment_begun.attempt_id}"
    return ""


def same_answer(first: Message, again: Message) -> bool:
    """Compares two answers to one call: all but what they show of the reservation as it is by now.

    That is the place, the state, and where the units of a reservation are from, which changes when
    late money takes them again.
    """
    return _of_the_call(first) == _of_the_call(again)


def _of_the_call(response: Message) -> Message:
    copy: Any = type(response)()
    copy.CopyFrom(response)
    sequence = copy.place.sequence
    copy.ClearField("place")
    copy.place.sequence = sequence
    copy.result.ClearField("replayed")
    copy.result.ClearField("state")
    if "taken" in copy.DESCRIPTOR.fields_by_name:
        copy.ClearField("taken")
    return copy  # type: ignore[no-any-return]
