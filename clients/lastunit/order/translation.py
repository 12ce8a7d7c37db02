"""Translates what the ledger says into what it means for an order.

Owns the mapping of the ledger's events and states to those of `states`. Must not do I/O: messages
in, moves out. Next: `lastunit.order.states`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import AttemptState, ReleaseReason, State
from lastunit.order.moves import Move
from lastunit.order.states import OrderEvent, OrderState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit.stock.v1 import event_pb2, reservation_pb2

__all__ = [
    "Translated",
    "attempt_state_name",
    "is_order_id",
    "moves_an_order",
    "order_state",
    "snapshot",
    "translate",
]

_MOVING: Final = frozenset(
    {
        "payment_begun",
        "payment_settled",
        "payment_news_ignored",
        "confirmed",
        "released",
        "extended",
        "became_overdue",
        "release_requested",
        "refund_recorded",
        "returned",
    }
)

# What carries a provider's proof.
_PROVEN: Final = frozenset({"payment_settled", "payment_news_ignored", "refund_recorded"})

# Causes and does what nobody asked for.
_TIMER: Final = "timer"

_ORDER_ID_PATTERN: Final = re.compile(r"o-[0-9a-f]{32}", re.ASCII)

_ORDER_STATES: Final[Mapping[State, OrderState]] = {
    State.HELD: OrderState.HELD,
    State.PAYING: OrderState.PAYING,
    State.OVERDUE: OrderState.PAYING,
    State.CONFIRMED: OrderState.PAID,
    State.RELEASED: OrderState.CLOSED,
    State.REFUND_DUE: OrderState.REFUND_DUE,
    State.REFUNDED: OrderState.REFUNDED,
    State.RETURNED: OrderState.RETURNED,
}


# What a refund of this service leaves as it is in the ledger, and where it leads here.
_SOLD: Final = frozenset({OrderState.PAID, OrderState.RETURNED})
_ASKED_BACK: Final = frozenset({OrderState.REFUND_DUE, OrderState.REFUNDED})


@dataclass(frozen=True, slots=True)
class Translated:
    """Is one event of the ledger in the order service's words.

    Attributes:
        move: What it does to the order.
        attempt_id: The attempt it tells of; empty if none.
        attempt_state: The attempt's state at the ledger.
    """

    move: Move
    attempt_id: str = ""
    attempt_state: str = ""


def moves_an_order(event: event_pb2.Event) -> bool:
    """Tells whether an event can change an order of this service."""
    return event.WhichOneof("body") in _MOVING and is_order_id(event.reservation_id)


def is_order_id(text: str) -> bool:
    """Tells whether a reservation has an id as `ids.order_id_of` makes them."""
    return _ORDER_ID_PATTERN.fullmatch(text) is not None


def order_state(state: State) -> OrderState | None:
    """Returns the order's state that goes with a reservation's, or None if it is not told."""
    return _ORDER_STATES.get(state)


def attempt_state_name(state: int) -> str:
    """Returns the name of the ledger's state of an attempt, such as `OPEN`."""
    return AttemptState(state).name


def translate(event: event_pb2.Event, state: OrderState) -> Translated:
    """Returns what an event does.

    Args:
        event: One for which `moves_an_order` holds.
        state: State of the order before it: further money for an order that is already owed some
            looks the same on the wire as the first.
    """
    body = event.WhichOneof("body")
    if body == "payment_begun":
        begun = event.payment_begun
        values = {
            "settle_by_ms": begun.settle_by_time.ToMilliseconds(),
            "close_reason": "",
            **({"is_retaken": True} if begun.retaken else {}),
        }
        return Translated(
            _move(event, OrderEvent.PAYMENT_BEGUN, begun.attempt_id, values),
            begun.attempt_id,
            AttemptState.OPEN.name,
        )
    if body == "payment_settled":
        return _translate_settled(event, state)
    if body == "payment_news_ignored":
        # Nothing changes, but nothing that a provider said is swallowed.
        ignored = event.payment_news_ignored
        return Translated(_move(event, OrderEvent.NEWS_IGNORED, ignored.attempt_id, {}))
    if body == "refund_recorded":
        refund = event.refund_recorded
        is_all = State(refund.state) is State.REFUNDED and state is OrderState.REFUND_DUE
        kind = OrderEvent.REFUNDED if is_all else OrderEvent.ATTEMPT_REFUNDED
        return Translated(
            _move(event, kind, refund.attempt_id, {}),
            refund.attempt_id,
            AttemptState.REFUNDED.name,
        )
    return Translated(_translate_plain(event, str(body)))


def snapshot(
    reservation: reservation_pb2.Reservation, source: OrderState
) -> tuple[OrderState, dict[str, Any]]:
    """Returns the state and columns of an order that is to equal its reservation.

    Args:
        reservation: As the ledger shows it.
        source: The state of the order. The ledger does not know what was asked back of money that
            it counts as well spent.

    Raises:
        ValueError: The reservation is in a state that this program does not know.
    """
    state = State(reservation.state)
    target = _ORDER_STATES.get(state)
    if target is None:
        raise ValueError(f"reservation {reservation.reservation_id} is in state {state}")
    if target in _SOLD and source in _ASKED_BACK:
        target = source
    is_paying = target is OrderState.PAYING
    reason = ReleaseReason(reservation.release_reason).name
    return target, {
        "close_reason": reason if target is OrderState.CLOSED else "",
        "is_overdue": state is State.OVERDUE,
        "is_cancel_asked": reservation.release_requested and is_paying,
        "is_retaken": reservation.retaken,
        "expire_ms": reservation.expire_time.ToMilliseconds(),
        "settle_by_ms": reservation.settle_by_time.ToMilliseconds() if is_paying else None,
    }


def _translate_settled(event: event_pb2.Event, state: OrderState) -> Translated:
    settled = event.payment_settled
    attempt_state = AttemptState(settled.attempt_state)
    after = State(settled.state)
    values: dict[str, Any] = {}
    if attempt_state is AttemptState.APPLIED:
        kind = OrderEvent.PAID
        values = {"close_reason": "", "is_overdue": False, "settle_by_ms": None}
        if settled.retaken:
            values["is_retaken"] = True
    elif attempt_state is AttemptState.REFUND_DUE:
        is_first = after is State.REFUND_DUE and state is not OrderState.REFUND_DUE
        kind = OrderEvent.REFUND_DUE if is_first else OrderEvent.PAID_TWICE
    elif after is State.HELD:
        kind = OrderEvent.LAST_ATTEMPT_CLOSED
        values = {
            "expire_ms": settled.expire_time.ToMilliseconds(),
            "settle_by_ms": None,
            "is_overdue": False,
            "is_cancel_asked": False,
        }
    elif after is State.RELEASED and state is not OrderState.CLOSED:
        kind = OrderEvent.RELEASED
        values = _closed(ReleaseReason.PAYMENT_FAILED)
    else:
        kind = OrderEvent.ATTEMPT_CLOSED
    move = _move(event, kind, settled.attempt_id, values)
    return Translated(move, settled.attempt_id, attempt_state.name)


def _translate_plain(event: event_pb2.Event, body: str) -> Move:
    """Translates the events that tell of no attempt."""
    if body == "released":
        reason = ReleaseReason(event.released.release_reason)
        return _move(event, OrderEvent.RELEASED, event.request_id or _TIMER, _closed(reason))
    if body == "extended":
        expire_ms = event.extended.expire_time.ToMilliseconds()
        return _move(event, OrderEvent.EXTENDED, event.request_id, {"expire_ms": expire_ms})
    if body == "became_overdue":
        return _move(event, OrderEvent.OVERDUE, _TIMER, {"is_overdue": True})
    if body == "release_requested":
        values = {"is_cancel_asked": True}
        return _move(event, OrderEvent.CANCEL_ASKED, event.request_id, values)
    if body == "confirmed":
        return _move(event, OrderEvent.PAID, event.request_id, {})
    if body == "returned":
        is_all = State(event.returned.state) is State.RETURNED
        kind = OrderEvent.RETURNED if is_all else OrderEvent.PARTLY_RETURNED
        return _move(event, kind, event.request_id, {})
    raise AssertionError(f"event {body} moves no order")


def _evidence(event: event_pb2.Event) -> str:
    """Returns the provider's proof that goes with news of money; empty for other events."""
    body = event.WhichOneof("body")
    return str(getattr(event, str(body)).evidence) if body in _PROVEN else ""


def _closed(reason: ReleaseReason) -> dict[str, Any]:
    return {
        "close_reason": reason.name,
        "is_overdue": False,
        "is_cancel_asked": False,
        "settle_by_ms": None,
    }


def _move(event: event_pb2.Event, kind: OrderEvent, cause: str, values: Mapping[str, Any]) -> Move:
    return Move(
        event=kind,
        sequence=event.sequence,
        cause=cause,
        actor=event.actor or event.caller or _TIMER,
        # A database would refuse the NUL that the ledger's contract lets through.
        reason=(event.reason or _evidence(event)).replace("\0", " "),
        time_ms=event.time.ToMilliseconds(),
        values=values,
    )
