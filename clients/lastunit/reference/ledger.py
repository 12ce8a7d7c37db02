"""The reference ledger: one object that answers every command of the contract.

Owns the state, ledger time, ids that came before, and the place of each answer. Must not hold a
rule: each rule stands in the module named after what it does, and `requests` lists them.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lastunit.reference import checking, journal, levels, limits, pools, sales, timers
from lastunit.reference.answers import Answer, refused
from lastunit.reference.requests import METHODS
from lastunit.reference.words import timestamp
from lastunit.stock.v1 import outcome_pb2, place_pb2, reservation_pb2

if TYPE_CHECKING:
    from lastunit.reference.state import Part, Reservation, Sale, Sku
    from lastunit.stock.v1.event_pb2 import Event

__all__ = ["Ledger"]

OK: Final = outcome_pb2.OUTCOME_OK
HELD: Final = reservation_pb2.STATE_HELD


class Remembered(NamedTuple):
    """A request that was carried out: what it asked, and the first answer."""

    method: str
    content: tuple[Any, ...]
    sequence: int
    answer: Answer


class Ledger:
    """Is a stock ledger in plain Python: slow, obvious, and of the same words as the real one.

    It keeps no clock: time comes in with each call, in milliseconds since the epoch, and never goes
    back. It does no I/O and holds no lock: one thread at a time.

    Args:
        now_ms: First ledger time, 0 or more.
        is_journal_kept: Whether `events` fills with the events as messages.
        epoch: Number of the first opening, 1 or more.

    Attributes:
        now: Ledger time, milliseconds since the epoch.
        sequence: The last event, 0 or more.
        op_number: Decisions since the last opening, which is the first; reads and refusals count.
        events: Every event so far as a message, oldest first, if they are kept.
    """

    def __init__(self, *, now_ms: int = 0, is_journal_kept: bool = False, epoch: int = 1) -> None:
        self.now = now_ms
        self.sequence = 0
        self.last_event_time = now_ms
        self.op_number = 0
        self.epoch = 0
        self.events: list[Event] = []
        self.is_journal_kept = is_journal_kept
        self.sales: dict[str, Sale] = {}
        self.free_places: list[int] = []
        self.places = 0
        self.reservations: dict[str, Reservation] = {}
        self.attempts: dict[str, Reservation] = {}
        self.merged: dict[str, str] = {}
        self.persons: dict[tuple[str, str], list[Reservation]] = {}
        self.remembered: dict[str, Remembered] = {}
        self.brake: tuple[bool, int | None] = (False, None)
        self.last_lag: tuple[int, int] | None = None
        self.changed: dict[Sku, None] = {}
        self._told_sequence = 0
        self._head: dict[str, Any] = {}
        self._is_replayed = False
        self.open(epoch=epoch)

    # What a user calls.

    def apply(self, request: Any, now_ms: int | None = None, *, caller: str = "") -> Any:
        """Answers one request as the ledger would; no timer runs.

        Args:
            request: Any request message of StockService or StockAdminService but the streams;
                it is taken as valid: the bounds of single fields are not checked here.
            now_ms: Ledger time of the decision; an earlier one than the ledger's counts as the
                ledger's, None leaves time as it is.
            caller: Who calls, for the journal.

        Returns:
            The response message, `place` included: every event counts as durable at once.
        """
        if now_ms is not None and now_ms > self.now:
            self.now = now_ms
        self.op_number += 1
        method = METHODS[type(request)]
        self._begin(request, caller)
        answer = self._answer(method, request)
        return self._encode(method, answer)

    def advance(self, now_ms: int) -> int:
        """Moves ledger time and does everything that is due by then, each at its own time.

        Returns:
            The last event that it wrote, 0 if nothing was due.
        """
        before = self.sequence
        self._begin(None, "")
        timers.run_due(self, now_ms)
        return self.sequence if self.sequence > before else 0

    def expire(self, reservation_id: str, now_ms: int) -> bool:
        """Ends one hold by the clock; False, and nothing changes, if the clock may not."""
        return self._timer(now_ms, timers.expire, self.reservations.get(reservation_id))

    def become_overdue(self, reservation_id: str, now_ms: int) -> bool:
        """Marks one payment as late; False, and nothing changes, if it is not late."""
        return self._timer(now_ms, timers.become_overdue, self.reservations.get(reservation_id))

    def move_sale(self, sale_id: str, now_ms: int) -> bool:
        """Opens or closes one sale by the clock; False, and nothing changes, if it is not time."""
        return self._timer(now_ms, timers.move_sale_by_time, self.sales.get(sale_id))

    def end_of_cancelled(self, reservation_id: str, now_ms: int) -> bool:
        """Lets the cancelling of a sale reach one claim; False if there is nothing to do."""
        return self._timer(now_ms, timers.end_of_cancelled, self.reservations.get(reservation_id))

    def open(
        self, now_ms: int | None = None, *, credit_ms: int = 0, epoch: int | None = None
    ) -> None:
        """Notes an opening of the journal, and adds an outage to every hold.

        Args:
            now_ms: Ledger time of the opening. It never lies before the last event, but with a
                manual clock it may lie before the time that was set last: only what is in the
                journal is known. None means the last event's time.
            credit_ms: For how long the ledger was down, 0 or more.
            epoch: Number of the opening. A ledger draws how far it rises at random, this one does
                not: None is one more than the last. One that is no higher counts as None.
        """
        self.now = max(self.last_event_time, now_ms or 0)
        self.epoch = max(self.epoch + 1, epoch or 0)
        self.op_number = 1
        self._begin(None, "")
        self.record("node_opened", epoch=self.epoch)
        if credit_ms:
            self.credit_outage(credit_ms)

    def credit_outage(self, credit_ms: int) -> None:
        """Adds time in which the ledger was down to every hold, and to its longest life."""
        self._begin(None, "")
        for reservation in self.reservations.values():
            if reservation.state == HELD:
                reservation.expires += credit_ms
                reservation.max_life += credit_ms
                self.touch(reservation)
                self.watch_hold(reservation)
        self.record("outage_credited", credit=credit_ms)

    def check(self) -> list[tuple[str, str, str]]:
        """Checks every invariant; returns invariant, subject and message of what does not hold."""
        return checking.findings_of(self)

    def usage(self, sale_id: str, person_id: str) -> tuple[dict[str, int], int]:
        """Returns the units of each sku that count for a person, and the unpaid reservations."""
        return limits.usage_of(self, self.sales[sale_id], person_id)

    def forget_sale(self, sale_id: str) -> None:
        """Drops all that is kept of a sale, so that a long run fits into memory.

        The ledger itself has no such command: ask about the sale no more, and keep in mind that the
        ids that were used in it count as new.
        """
        sale = self.sales.pop(sale_id)
        for reservation in sale.reservations:
            del self.reservations[reservation.reservation_id]
            for attempt_id in reservation.attempts:
                del self.attempts[attempt_id]
        self.persons = {key: kept for key, kept in self.persons.items() if key[0] != sale_id}
        self.remembered = {
            key: kept
            for key, kept in self.remembered.items()
            if kept.answer.reservation is None or kept.answer.reservation.sale is not sale
        }

    # What the rules call.

    def again(self, sequence: int, reservation: Reservation | None, /, **fields: Any) -> Answer:
        """Gives a first answer again; its place names the events of the first call."""
        self._is_replayed = True
        self._told_sequence = sequence
        return Answer(OK, reservation, {}, fields)

    def sale_state(self, sale: Sale) -> int:
        """Returns the state of a sale as ledger time has it, even if no timer has noted it yet."""
        return sales.state_by_time(sale.state, sale.opens, sale.closes, self.now)

    def enter(self, reservation: Reservation, state: int) -> None:
        """Moves a reservation, and its units, to another state."""
        if reservation.state != state:
            pools.count_as(reservation, state)
            reservation.state = state
            self.touch(reservation)

    def take_again(self, reservation: Reservation, parts: list[Part], state: int) -> None:
        """Gives new units to a reservation that had lost its own."""
        reservation.parts = parts
        reservation.state = state
        reservation.is_retaken = True
        reservation.release_reason = 0
        pools.take(parts, "paying" if state == reservation_pb2.STATE_PAYING else "sold")
        self.touch(reservation)

    def take_place(self) -> int:
        """Returns the place of a new reservation: the lowest that was forgotten, or a new one."""
        if self.free_places:
            return heapq.heappop(self.free_places)
        self.places += 1
        return self.places - 1

    def drop_from_person(self, reservation: Reservation) -> None:
        """Stops counting a reservation for its person."""
        limits.counted(self, reservation).remove(reservation)

    def touch(self, reservation: Reservation) -> None:
        """Says that the next event changes what is told of the reservation's skus."""
        for part in reservation.parts:
            self.changed[part.sku] = None

    def watch_hold(self, reservation: Reservation) -> None:
        """Notes when the clock may end a hold."""
        entry = (
            reservation.expires,
            reservation.number,
            reservation.create_sequence,
            reservation,
        )
        heapq.heappush(reservation.sale.holds, entry)
        for sku in reservation.skus().values():
            heapq.heappush(sku.holds, entry)

    def watch_payment(self, reservation: Reservation) -> None:
        """Notes when a payment is late."""
        entry = (
            reservation.settle_by or 0,
            reservation.number,
            reservation.create_sequence,
            reservation,
        )
        heapq.heappush(reservation.sale.payments, entry)

    def record(
        self,
        event: str,
        reservation: Reservation | None = None,
        *,
        sale: Sale | None = None,
        state_from: int | None = None,
        **fields: Any,
    ) -> None:
        """Records one event: what changed since the last one belongs to it.

        Args:
            event: Field of the event's body, for example `payment_begun`.
            reservation: The one concerned, if any.
            sale: The sale, if no reservation is concerned.
            state_from: Where the reservation was; None if it did not move.
            fields: The fields of the event's body.
        """
        self.sequence += 1
        self._told_sequence = self.sequence
        self.last_event_time = self.now
        for sku in self.changed:
            levels.note_change(sku, self.sequence)
        self.changed.clear()
        head = self._head
        if reservation is not None:
            reservation.changed = self.now
            reservation.last_sequence = self.sequence
            state_from = reservation.state if state_from is None else state_from
            cause = head["request_id"] or self._cause(event, reservation, fields)
            actor = head["actor"] or head["caller"]
            reservation.transitions.append(
                (
                    self.sequence,
                    self.now,
                    event,
                    state_from,
                    reservation.state,
                    cause,
                    actor,
                    head["reason"],
                )
            )
        if self.is_journal_kept:
            self._keep(event, reservation, sale, fields)

    # What stays inside.

    def _begin(self, request: Any, caller: str) -> None:
        self._told_sequence = 0
        self._is_replayed = False
        self._head = {
            "request_id": getattr(request, "request_id", ""),
            "caller": caller,
            "actor": getattr(request, "actor", ""),
            "reason": getattr(request, "reason", ""),
        }

    def _answer(self, method: Any, request: Any) -> Answer:
        if not method.read:
            return method.run(self, request)  # type: ignore[no-any-return]
        content = method.content(request)
        known = self.remembered.get(request.request_id)
        if known is not None:
            return self._repeat(known, method, content)
        answer: Answer = method.run(self, request)
        if answer.outcome == OK:
            self._remember(request, Remembered(method.name, content, self.sequence, answer))
        return answer

    def _remember(self, request: Any, what: Remembered) -> None:
        self.remembered[request.request_id] = what
        reservation = what.answer.reservation
        sale = self.sales.get(getattr(request, "sale_id", ""))
        if reservation is not None:
            reservation.requests.append(request.request_id)
        elif sale is not None:
            sale.requests.append((request.request_id, self.now))

    def _repeat(self, known: Remembered, method: Any, content: tuple[Any, ...]) -> Answer:
        if known.method != method.name:
            return refused(
                outcome_pb2.OUTCOME_CONFLICT, known.answer.reservation, conflict_field="command"
            )
        for name, first, now in zip(method.read, known.content, content, strict=True):
            if first != now:
                field = sales.path_of_difference(name, first, now)
                return refused(
                    outcome_pb2.OUTCOME_CONFLICT, known.answer.reservation, conflict_field=field
                )
        return self.again(known.sequence, known.answer.reservation, **known.answer.fields)

    @staticmethod
    def _cause(event: str, reservation: Reservation, fields: dict[str, Any]) -> str:
        """Names what caused an event without a request id: what it makes, or the timer."""
        made = {"reserved": reservation.reservation_id, "payment_begun": fields.get("attempt_id")}
        return made.get(event) or "timer"

    def _timer(self, now_ms: int, act: Any, subject: Any) -> bool:
        if subject is None:
            return False
        self.now = max(self.now, now_ms)
        self._begin(None, "")
        return bool(act(self, subject))

    def _encode(self, method: Any, answer: Answer) -> Any:
        result = answer.result
        if result.get("come_back_time") is not None:
            result["come_back_time"] = timestamp(result["come_back_time"])
        if answer.reservation is not None:
            result["state"] = answer.reservation.state
        result["outcome"] = answer.outcome
        result["replayed"] = self._is_replayed
        fields: dict[str, Any] = {}
        for name, value in answer.fields.items():
            if value is None:
                continue
            if name.endswith("_time"):
                fields[name] = timestamp(value)
            elif name == "taken":
                fields[name] = journal.taken_messages(value)
            else:
                fields[name] = value
        return method.response(place=self.place(), result=result, **fields)

    def place(self) -> place_pb2.Place:
        """Returns where the last answer stands in the ledger's history."""
        return place_pb2.Place(
            sequence=self._told_sequence,
            as_of_sequence=self.sequence,
            durable_sequence=self.sequence,
            op_number=self.op_number,
            epoch=self.epoch,
            durability=place_pb2.DURABILITY_MEMORY,
        )

    def _keep(
        self, event: str, reservation: Reservation | None, sale: Sale | None, fields: Any
    ) -> None:
        sale = reservation.sale if reservation else sale
        head = {
            "sequence": self.sequence,
            "time": timestamp(self.now),
            "request_id": self._head["request_id"],
            "caller": self._head["caller"],
            "actor": self._head["actor"],
            "reason": self._head["reason"],
            "sale_id": sale.sale_id if sale else "",
            "reservation_id": reservation.reservation_id if reservation else "",
        }
        self.events.append(journal.message_of(event, head, fields))
