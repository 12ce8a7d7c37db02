"""Wrong replies, planted into a recorded history, to see that the checks find them.

Owns the alterations. Each takes the calls of a windows run and gives them back with one lie in
them that no server may tell; a check that accepts such a history proves nothing. Next:
`test_windows.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from lastunit.stock.v1 import outcome_pb2, reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock

from .calls import UNKNOWN, Call
from .window_client import POOL, SKU

OK: Final = outcome_pb2.OUTCOME_OK


class _Answered:
    """One single call with its messages opened."""

    def __init__(self, index: int, call: Call) -> None:
        self.index = index
        self.call = call
        self.request: Any = getattr(stock, f"{call.method}Request").FromString(call.request)
        self.reply: Any = getattr(stock, f"{call.method}Response").FromString(call.reply)

    def ended_before(self, other: _Answered) -> bool:
        """Tells whether this call had its answer before the other was sent."""
        return self.call.return_ns < other.call.call_ns


def _answered(calls: Sequence[Call], *methods: str) -> list[_Answered]:
    return [
        _Answered(index, call)
        for index, call in enumerate(calls)
        if call.method in methods and call.return_ns != UNKNOWN
    ]


def _told(calls: Sequence[Call], changes: dict[int, Any]) -> list[Call]:
    """Returns the calls, some with another reply."""
    told = list(calls)
    for index, reply in changes.items():
        told[index] = replace(calls[index], reply=reply.SerializeToString())
    return told


def wrong_outcome(calls: Sequence[Call]) -> list[Call]:
    """A Confirm that sold is told that the reservation's state forbids it, and that it is HELD."""
    confirm = next(
        one
        for one in _answered(calls, "Confirm")
        if one.reply.result.outcome == OK and not one.reply.result.replayed
    )
    confirm.reply.result.outcome = outcome_pb2.OUTCOME_WRONG_STATE
    confirm.reply.result.state = reservation_pb2.STATE_HELD
    confirm.reply.place.sequence = 0
    return _told(calls, {confirm.index: confirm.reply})


def stale_read(calls: Sequence[Call]) -> list[Call]:
    """A read shows the counters of the beginning, after one before it showed that units are sold.

    In a window nothing is ever returned, so what is sold stays so.
    """
    sold: dict[str, _Answered] = {}
    fresh: dict[str, _Answered] = {}
    for one in _answered(calls, "GetAvailability"):
        window = one.request.sale_id
        [shown] = one.reply.availabilities
        if shown.counters.sold == 0:
            fresh.setdefault(window, one)
        elif window not in sold:
            sold[window] = one
        elif window in fresh and sold[window].ended_before(one):
            [was] = fresh[window].reply.availabilities
            shown.CopyFrom(was)
            return _told(calls, {one.index: one.reply})
    raise LookupError("no window has a read after a sale; record more")


def lost_effect(calls: Sequence[Call]) -> list[Call]:
    """A reservation that was told to be held is not known to a later read."""
    held: dict[str, _Answered] = {}
    for one in _answered(calls, "Reserve"):
        if one.reply.result.outcome == OK:
            held.setdefault(one.request.reservation_id, one)
    for one in _answered(calls, "GetReservation"):
        reserve = held.get(one.request.reservation_id)
        if reserve is not None and reserve.ended_before(one):
            one.reply.ClearField("reservation")
            one.reply.result.Clear()
            one.reply.result.outcome = outcome_pb2.OUTCOME_UNKNOWN_RESERVATION
            return _told(calls, {one.index: one.reply})
    raise LookupError("no read after a reservation; record more")


def double_sale(calls: Sequence[Call]) -> list[Call]:
    """The buyers of one window who were told SOLD_OUT are told that they have their units."""
    refused: dict[str, list[_Answered]] = defaultdict(list)
    for one in _answered(calls, "Reserve"):
        if one.reply.result.outcome == outcome_pb2.OUTCOME_SOLD_OUT:
            refused[one.request.sale_id].append(one)
    most = max(refused.values(), key=len)
    for one in most:
        one.reply.result.Clear()
        one.reply.result.outcome = OK
        one.reply.result.state = reservation_pb2.STATE_HELD
        units = one.request.lines[0].units
        one.reply.taken.add(sku=SKU, pool=POOL, units=units)
    return _told(calls, {one.index: one.reply for one in most})


def swapped_numbers(calls: Sequence[Call]) -> list[Call]:
    """Two replies, one after the other in real time, have each other's number."""
    reads = _answered(calls, "GetAvailability")
    for first in reads:
        for second in reads:
            is_same = first.reply.place.epoch == second.reply.place.epoch
            if is_same and first.ended_before(second):
                numbers = (first.reply.place.op_number, second.reply.place.op_number)
                second.reply.place.op_number, first.reply.place.op_number = numbers
                return _told(calls, {first.index: first.reply, second.index: second.reply})
    raise LookupError("no two reads in a row; record more")


def twice_one_number(calls: Sequence[Call]) -> list[Call]:
    """Two replies have the same number."""
    first, second, *_ = _answered(calls, "GetAvailability")
    second.reply.place.op_number = first.reply.place.op_number
    second.reply.place.epoch = first.reply.place.epoch
    return _told(calls, {second.index: second.reply})


def not_durable(calls: Sequence[Call]) -> list[Call]:
    """A reply leaves before what it shows is on disk."""
    first, *_ = _answered(calls, "GetAvailability")
    first.reply.place.durable_sequence = first.reply.place.as_of_sequence - 1
    return _told(calls, {first.index: first.reply})


def unasked_event(calls: Sequence[Call]) -> list[Call]:
    """The journal holds a reservation that no client has ever asked for."""
    reserve = next(one for one in _answered(calls, "Reserve") if one.reply.result.outcome == OK)
    return [call for call in calls if call.request != reserve.call.request]


Plant = Callable[[Sequence[Call]], list[Call]]
# A check that looks at requests, answers and real time alone has to find these.
VISIBLE: Final = (wrong_outcome, stale_read, lost_effect, double_sale)
# These are lies about places; only a check of places can find them.
OF_PLACES: Final = (swapped_numbers, twice_one_number, not_durable, unasked_event)
