"""The gates over gRPC: the part of AdmissionService that shows and sets them.

Owns the messages' form and what a refusal says; must not judge a gate (see `gates`).
"""

import time
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.admission.v1 import gate_pb2 as messages
from lastunit_server.declared_rules import checked
from lastunit_server.faults import Refusal, fault
from lastunit_server.gate_book import Hand, Order
from lastunit_server.gates import RevisionError, UnknownSaleError
from lastunit_server.methods import ADMISSION, path

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit_server.call_context import Caller
    from lastunit_server.doorkeeper import Doorkeeper
    from lastunit_server.gates import Gate, Gates

__all__ = ["GateService", "gate_message", "unknown_sale"]

_STATES = {
    "open": messages.GATE_STATE_OPEN,
    "queueing": messages.GATE_STATE_QUEUEING,
    "closed": messages.GATE_STATE_CLOSED,
}
_HANDS: "dict[Hand, messages.GateHand.ValueType]" = {
    "automatic": messages.GATE_HAND_AUTOMATIC,
    "open": messages.GATE_HAND_OPEN,
    "queueing": messages.GATE_HAND_QUEUEING,
    "closed": messages.GATE_HAND_CLOSED,
}
_HAND_NAMES: "dict[messages.GateHand.ValueType, Hand]" = {
    value: name for name, value in _HANDS.items()
}
_MILLISECONDS = 1000


def unknown_sale(sale_id: str) -> Refusal:
    """Refuses a sale that has no gate."""
    return fault(
        grpc.StatusCode.NOT_FOUND,
        "UNKNOWN_SALE",
        f"there is no gate of sale {sale_id!r}, define the sale with PutSale or correct the name;"
        " archived sales have none",
        metadata={"sale_id": sale_id},
    )


class GateService:
    """The methods as functions of caller and bytes.

    Args:
        gates: What is shown.
        doorkeeper: Who may.
    """

    def __init__(self, gates: "Gates", doorkeeper: "Doorkeeper") -> None:
        self._gates = gates
        self._doorkeeper = doorkeeper

    def methods(self) -> "dict[str, Callable[[Caller, bytes], bytes | Refusal]]":
        """Returns each method by its gRPC path."""
        return {
            path(ADMISSION, "GetGate"): self.get_gate,
            path(ADMISSION, "ListGates"): self.list_gates,
            path(ADMISSION, "SetGate"): self.set_gate,
        }

    def get_gate(self, caller: "Caller", request: bytes) -> bytes | Refusal:
        """Answers GetGate."""
        gate = self._asked(caller, "GetGate", checked(messages.GetGateRequest, request))
        if isinstance(gate, Refusal):
            return gate
        return bytes(messages.GetGateResponse(gate=gate).SerializeToString())

    def watch_gate(self, caller: "Caller", request: bytes) -> bytes | Refusal:
        """Answers what a watch should show now, in the form of WatchGate's messages."""
        gate = self._asked(caller, "WatchGate", checked(messages.WatchGateRequest, request))
        if isinstance(gate, Refusal):
            return gate
        return bytes(messages.WatchGateResponse(gate=gate).SerializeToString())

    def _asked(
        self,
        caller: "Caller",
        method: str,
        asked: messages.GetGateRequest | messages.WatchGateRequest | Refusal,
    ) -> messages.Gate | Refusal:
        """Returns the gate of the sale that is asked for, if the caller may see it."""
        if isinstance(asked, Refusal):
            return asked
        refusal = self._doorkeeper.refusal(caller, method, sale_id=asked.sale_id)
        if refusal is not None:
            return refusal
        try:
            return gate_message(self._gates, self._gates.one(asked.sale_id))
        except UnknownSaleError:
            return unknown_sale(asked.sale_id)

    def list_gates(self, caller: "Caller", request: bytes) -> bytes | Refusal:
        """Answers ListGates; pages in the order of the sales' names."""
        asked = checked(messages.ListGatesRequest, request)
        if isinstance(asked, Refusal):
            return asked
        refusal = self._doorkeeper.refusal(caller, "ListGates")
        if refusal is not None:
            return refusal
        gates = [gate for gate in self._gates.all() if gate.sale_id > asked.page_token]
        page = gates[: asked.page_size]
        response = messages.ListGatesResponse(
            gates=[gate_message(self._gates, gate) for gate in page],
            next_page_token=page[-1].sale_id if len(gates) > len(page) else "",
        )
        return bytes(response.SerializeToString())

    def set_gate(self, caller: "Caller", request: bytes) -> bytes | Refusal:
        """Answers SetGate."""
        asked = checked(messages.SetGateRequest, request)
        if isinstance(asked, Refusal):
            return asked
        refusal = self._doorkeeper.refusal(caller, "SetGate", sale_id=asked.sale_id)
        if refusal is not None:
            return refusal
        if asked.HasField("hold") and asked.hand == messages.GATE_HAND_AUTOMATIC:
            return fault(
                grpc.StatusCode.INVALID_ARGUMENT,
                "INVALID_FIELD",
                "field hold means nothing with GATE_HAND_AUTOMATIC; leave it out",
                metadata={"field": "hold"},
            )
        gate = self._set(caller, asked)
        if isinstance(gate, Refusal):
            return gate
        response = messages.SetGateResponse(gate=gate_message(self._gates, gate))
        return bytes(response.SerializeToString())

    def _set(self, caller: "Caller", asked: messages.SetGateRequest) -> "Gate | Refusal":
        expected = asked.expected_revision if asked.HasField("expected_revision") else None
        try:
            return self._gates.set(
                lambda revision, now_ms: _order(asked, caller.name, revision, now_ms),
                asked.sale_id,
                expected_revision=expected,
            )
        except UnknownSaleError:
            return unknown_sale(asked.sale_id)
        except RevisionError as error:
            return _other_revision(error.revision)
        except OSError as error:
            return _not_kept(error)


def _order(asked: messages.SetGateRequest, caller: str, revision: int, now_ms: int) -> Order:
    until_ms = None
    if asked.HasField("hold"):
        until_ms = now_ms + max(1, asked.hold.ToMilliseconds())
    return Order(
        sale_id=asked.sale_id,
        revision=revision,
        hand=_HAND_NAMES[asked.hand],
        actor=asked.actor,
        caller=caller,
        reason=asked.reason,
        given_ms=int(time.time() * _MILLISECONDS),
        until_ms=until_ms,
    )


def _other_revision(revision: int) -> Refusal:
    return fault(
        grpc.StatusCode.ABORTED,
        "REVISION_MISMATCH",
        f"somebody gave another order meanwhile, it is revision {revision} now; look at the gate"
        " and decide again",
        metadata={"revision": str(revision)},
    )


def _not_kept(error: OSError) -> Refusal:
    return fault(
        grpc.StatusCode.UNAVAILABLE,
        "ORDER_NOT_KEPT",
        f"the order could not be written to the data directory ({error.strerror}), nothing has"
        " changed; look after the disk and send it again",
    )


def gate_message(gates: "Gates", gate: "Gate") -> messages.Gate:
    """Returns a gate in the form of the contract."""
    order = gates.order_of(gate)
    return messages.Gate(
        sale_id=gate.sale_id,
        state=_STATES[gate.state],
        cause=messages.GateCause.Value(f"GATE_CAUSE_{gate.cause}"),
        since_time=_time(gate.since_ms),
        as_of_time=_time(gate.as_of_ms),
        come_back_after=_span(gate.come_back_ms),
        pressure=gate.pressure,
        queue_count=gate.queue_count,
        queue_count_max=gate.queue_count_max,
        held_count=gate.held_count,
        paying_count=gate.paying_count,
        callback_lag=_span(gate.callback_lag_ms),
        reservation_ttl=_span(gate.reservation_ttl_ms),
        calls_in_flight=gate.calls_in_flight,
        calls_in_flight_max=gate.calls_in_flight_max,
        drain_per_second=gate.drain_per_second_milli / _MILLISECONDS,
        opens_time=_time(gate.opens_ms),
        closes_time=_time(gate.closes_ms),
        is_sold_out=gate.is_sold_out,
        order=_order_message(order) if order else None,
        revision=gates.revision_of(gate.sale_id),
    )


def _order_message(order: Order) -> messages.GateOrder:
    return messages.GateOrder(
        hand=_HANDS[order.hand],
        actor=order.actor,
        reason=order.reason,
        caller=order.caller,
        given_time=_time(order.given_ms),
        until_time=_time(order.until_ms),
    )


def _time(millis: int | None) -> Timestamp | None:
    if millis is None:
        return None
    seconds, rest = divmod(millis, _MILLISECONDS)
    return Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def _span(millis: int | None) -> Duration | None:
    if millis is None:
        return None
    seconds, rest = divmod(millis, _MILLISECONDS)
    return Duration(seconds=seconds, nanos=rest * 1_000_000)
