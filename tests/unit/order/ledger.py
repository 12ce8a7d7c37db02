"""A ledger in memory that keeps its own events.

Owns: the stand-in. It knows units, ids and events, and nothing of time.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from lastunit.client.aio import EventPage
from lastunit.client.outcomes import Disposition, Line, Outcome, ReleaseReason, Reply, State
from lastunit.errors import LastunitError, UnavailableError
from lastunit.stock.v1 import (
    availability_pb2,
    event_pb2,
    outcome_pb2,
    place_pb2,
    reservation_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.client.outcomes import AttemptState

START_MS = 1_700_000_000_000
TTL_MS = 600_000


def no_answer() -> UnavailableError:
    """Returns the error of a service that does not answer."""
    return UnavailableError("no answer", reason="UNAVAILABLE")


class LedgerDouble:
    """Holds and gives back units, and writes an event for each change.

    Attributes:
        available: Units that can be held.
        calls: How often each method was called.
        lost_replies: The next calls act and then raise these.
        begin_outcomes: The next payments are refused with these.
        errors: The next returns raise these and do nothing.
        returned: Units that came back, by SKU and disposition.
        forgotten: Reservations that it knows nothing of any more.
        gone: SKUs that have no unit, whatever else there is.
        now_ms: Ledger time.
        events: The journal.
    """

    def __init__(self, units: int) -> None:
        self.available = units
        self.calls: Counter[str] = Counter()
        self.lost_replies: deque[LastunitError] = deque()
        self.begin_outcomes: deque[Outcome] = deque()
        self.errors: deque[LastunitError] = deque()
        self.returned: Counter[tuple[str, Disposition]] = Counter()
        self.gone: set[str] = set()
        self.forgotten: set[str] = set()
        self.now_ms: Callable[[], int] = lambda: START_MS
        self.events: list[event_pb2.Event] = []
        self.not_after_ms: list[int | None] = []
        self._reservations: dict[str, reservation_pb2.Reservation] = {}
        self._reserved_at: dict[str, int] = {}
        self._released: dict[str, bool] = {}
        self._returned: dict[str, stock_service_pb2.ReturnResponse] = {}
        self.admin = ExplainDouble(self)

    async def reserve(
        self,
        reservation_id: str,
        *,
        sale_id: str,
        person_id: str,
        lines: Sequence[Line],
        not_after_ms: int | None = None,
    ) -> Reply[stock_service_pb2.ReserveResponse]:
        """Holds units."""
        self.calls["reserve"] += 1
        self.not_after_ms.append(not_after_ms)
        found = self._reservations.get(reservation_id)
        if found is not None:
            conflict = _conflict(found, sale_id, person_id, lines)
            outcome = Outcome.CONFLICT if conflict else Outcome.OK
            reply = self._reserved(outcome, reservation_id, replayed=not conflict)
            reply.result.conflict_field = conflict
            return Reply(reply)
        for line in lines:
            if line.sku in self.gone:
                refused = self._reserved(Outcome.SOLD_OUT, reservation_id)
                refused.result.sku = line.sku
                return Reply(refused)
        wanted = sum(line.units for line in lines)
        if wanted > self.available:
            reply = self._reserved(Outcome.SOLD_OUT, reservation_id)
            reply.result.sku = lines[0].sku
            reply.result.level = availability_pb2.LEVEL_HELD_OUT
            reply.result.come_back_time.FromMilliseconds(START_MS + TTL_MS)
            return Reply(reply)
        self.available -= wanted
        reservation = reservation_pb2.Reservation(
            reservation_id=reservation_id,
            sale_id=sale_id,
            person_id=person_id,
            lines=[
                reservation_pb2.Line(sku=line.sku, units=line.units, pool=line.pool)
                for line in lines
            ],
            taken=[
                reservation_pb2.Taken(
                    line_index=index, sku=line.sku, units=line.units, pool=line.pool or "main"
                )
                for index, line in enumerate(lines)
            ],
            create_sequence=len(self.events) + 1,
        )
        reservation.create_time.FromMilliseconds(self.now_ms())
        reservation.expire_time.FromMilliseconds(START_MS + TTL_MS)
        self._reservations[reservation_id] = reservation
        self.happen(reservation_id, State.HELD, reserved={"person_id": person_id})
        self._reserved_at[reservation_id] = len(self.events)
        self._maybe_lose()
        return Reply(self._reserved(Outcome.OK, reservation_id))

    async def begin_payment(
        self,
        attempt_id: str,
        *,
        reservation_id: str,
        provider: str = "",
        amount_minor: int = 0,
        currency: str = "",
    ) -> Reply[stock_service_pb2.BeginPaymentResponse]:
        """Opens an attempt."""
        self.calls["begin_payment"] += 1
        assert (provider, currency) == ("", "CNY")
        assert amount_minor > 0
        reservation = self._reservations[reservation_id]
        is_new = attempt_id not in {attempt.attempt_id for attempt in reservation.attempts}
        outcome = self.begin_outcomes.popleft() if self.begin_outcomes else Outcome.OK
        if outcome is Outcome.OK and is_new:
            reservation.attempts.add(
                attempt_id=attempt_id, state=reservation_pb2.ATTEMPT_STATE_OPEN
            )
            self.happen(reservation_id, State.PAYING, payment_begun={"attempt_id": attempt_id})
        self._maybe_lose()
        response = stock_service_pb2.BeginPaymentResponse(
            place=self._place(len(self.events)), result=self._result(outcome, reservation_id)
        )
        response.settle_by_time.FromMilliseconds(START_MS + 900_000)
        return Reply(response)

    async def release(
        self, request_id: str, *, reservation_id: str
    ) -> Reply[stock_service_pb2.ReleaseResponse]:
        """Gives units back, or asks for that."""
        self.calls["release"] += 1
        state = State(self._reservations[reservation_id].state)
        replayed = request_id in self._released
        outcome = Outcome.OK
        if not replayed and state is State.HELD:
            self.give_back(reservation_id, ReleaseReason.CLIENT)
            self._released[request_id] = False
        elif not replayed and state is State.PAYING:
            self.happen(reservation_id, State.PAYING, release_requested={})
            self._released[request_id] = True
        elif not replayed:
            outcome = Outcome.WRONG_STATE
        return Reply(
            stock_service_pb2.ReleaseResponse(
                place=self._place(len(self.events)),
                result=self._result(outcome, reservation_id, replayed=replayed),
                release_requested=self._released.get(request_id, False),
            )
        )

    async def return_units(
        self,
        request_id: str,
        *,
        reservation_id: str,
        sku: str,
        units: int,
        disposition: Disposition,
        pool: str = "",
    ) -> Reply[stock_service_pb2.ReturnResponse]:
        """Takes units back, those taken last first, each request once."""
        self.calls["return_units"] += 1
        if self.errors:
            raise self.errors.popleft()
        known = self._returned.get(request_id)
        if known is not None:
            known.result.replayed = True
            return Reply(known)
        reservation = self._reservations[reservation_id]
        pieces = [
            piece
            for piece in reversed(reservation.taken)
            if piece.sku == sku and pool in ("", piece.pool)
        ]
        outcome = Outcome.OK
        if not pieces:
            outcome = Outcome.UNKNOWN_SKU
        elif State(reservation.state) is not State.CONFIRMED:
            outcome = Outcome.WRONG_STATE
        elif sum(piece.units - piece.returned_units for piece in pieces) < units:
            outcome = Outcome.NOT_ENOUGH_UNITS
        if outcome is Outcome.OK:
            self._book_return(reservation, pieces, units, disposition)
        response = stock_service_pb2.ReturnResponse(
            place=self._place(len(self.events)),
            result=self._result(outcome, reservation_id),
            returned_units=units if outcome is Outcome.OK else 0,
        )
        if outcome is Outcome.OK:
            self._returned[request_id] = response
        self._maybe_lose()
        return Reply(response)

    def _book_return(
        self,
        reservation: reservation_pb2.Reservation,
        pieces: Sequence[reservation_pb2.Taken],
        units: int,
        disposition: Disposition,
    ) -> None:
        missing = units
        for piece in pieces:
            back = min(missing, piece.units - piece.returned_units)
            piece.returned_units += back
            missing -= back
        self.returned[(pieces[0].sku, disposition)] += units
        if disposition is Disposition.RESELL:
            self.available += units
        is_all = all(piece.units == piece.returned_units for piece in reservation.taken)
        state = State.RETURNED if is_all else State.CONFIRMED
        body = {"sku": pieces[0].sku, "units": units, "state": state.value}
        self.happen(reservation.reservation_id, state, returned=body)

    async def get_reservation(
        self, reservation_id: str
    ) -> Reply[stock_service_pb2.GetReservationResponse]:
        """Shows a reservation."""
        self.calls["get_reservation"] += 1
        if reservation_id in self.forgotten:
            return Reply(
                stock_service_pb2.GetReservationResponse(
                    place=self._place(0),
                    result=self._result(Outcome.UNKNOWN_RESERVATION, reservation_id),
                )
            )
        return Reply(
            stock_service_pb2.GetReservationResponse(
                place=self._place(0),
                result=self._result(Outcome.OK, reservation_id),
                reservation=self._reservations[reservation_id],
            )
        )

    async def get_availability(
        self, sale_id: str, *, skus: Sequence[str] = ()
    ) -> Reply[stock_service_pb2.GetAvailabilityResponse]:
        """Shows one pool for each SKU."""
        response = stock_service_pb2.GetAvailabilityResponse(
            result=outcome_pb2.Result(outcome=outcome_pb2.OUTCOME_OK)
        )
        for sku in skus:
            shown = response.availabilities.add(sale_id=sale_id, sku=sku)
            pool = shown.pools.add(pool="main", offered=True)
            pool.counters.available = 0 if sku in self.gone else self.available
        return Reply(response)

    async def read_event_page(self, after_sequence: int, *, page_size: int = 1024) -> EventPage:
        """Returns events after a position."""
        page = self.events[after_sequence : after_sequence + page_size]
        return EventPage(tuple(page), len(self.events), 1)

    def taken(self, reservation_id: str) -> Counter[str]:
        """Returns the units that a reservation took, by SKU."""
        return self._pieces(reservation_id, "units")

    def returned_of(self, reservation_id: str) -> Counter[str]:
        """Returns the units of a reservation that came back, by SKU."""
        return self._pieces(reservation_id, "returned_units")

    def _pieces(self, reservation_id: str, field: str) -> Counter[str]:
        counted: Counter[str] = Counter()
        for piece in self._reservations[reservation_id].taken:
            counted[piece.sku] += getattr(piece, field)
        return counted

    # --- what a test lets happen ---

    def happen(self, reservation_id: str, state: State, **body: Any) -> None:
        """Sets the state of a reservation and writes the event that says so."""
        reservation = self._reservations.get(reservation_id)
        if reservation is not None:
            reservation.state = reservation_pb2.State.ValueType(state.value)
        event = event_pb2.Event(
            sequence=len(self.events) + 1, reservation_id=reservation_id, **body
        )
        event.time.FromMilliseconds(START_MS + len(self.events))
        self.events.append(event)

    def give_back(self, reservation_id: str, reason: ReleaseReason) -> None:
        """Releases a reservation."""
        reservation = self._reservations[reservation_id]
        self.available += sum(line.units for line in reservation.lines)
        reservation.release_reason = reservation_pb2.ReleaseReason.ValueType(reason.value)
        self.happen(reservation_id, State.RELEASED, released={"release_reason": reason.value})

    def settle(
        self,
        reservation_id: str,
        attempt_id: str,
        attempt_state: AttemptState,
        state: State,
        **more: Any,
    ) -> None:
        """Lets the payment service's news arrive."""
        for attempt in self._reservations[reservation_id].attempts:
            if attempt.attempt_id == attempt_id:
                attempt.state = reservation_pb2.AttemptState.ValueType(attempt_state.value)
        settled = {
            "attempt_id": attempt_id,
            "attempt_state": attempt_state.value,
            "state": state.value,
        }
        self.happen(reservation_id, state, payment_settled=settled | more)

    # --- inside ---

    def _maybe_lose(self) -> None:
        if self.lost_replies:
            raise self.lost_replies.popleft()

    def _reserved(
        self, outcome: Outcome, reservation_id: str, *, replayed: bool = False
    ) -> stock_service_pb2.ReserveResponse:
        response = stock_service_pb2.ReserveResponse(
            place=self._place(self._reserved_at.get(reservation_id, 0)),
            result=self._result(outcome, reservation_id, replayed=replayed),
        )
        if outcome is Outcome.OK:
            response.expire_time.FromMilliseconds(START_MS + TTL_MS)
            response.taken.extend(self._reservations[reservation_id].taken)
        return response

    def _place(self, sequence: int) -> place_pb2.Place:
        return place_pb2.Place(sequence=sequence, as_of_sequence=len(self.events))

    def _result(
        self, outcome: Outcome, reservation_id: str, *, replayed: bool = False
    ) -> outcome_pb2.Result:
        found = self._reservations.get(reservation_id)
        return outcome_pb2.Result(
            outcome=outcome_pb2.Outcome.ValueType(outcome.value),
            replayed=replayed,
            state=found.state if found is not None else reservation_pb2.STATE_UNSPECIFIED,
        )


def _conflict(
    found: reservation_pb2.Reservation, sale_id: str, person_id: str, lines: Sequence[Line]
) -> str:
    """Returns the field in which a repeat differs, as the ledger names it; empty for none."""
    if found.person_id != person_id:
        return "person_id"
    if found.sale_id != sale_id:
        return "sale_id"
    had = [(line.sku, line.units, line.pool) for line in found.lines]
    return "" if had == [(line.sku, line.units, line.pool) for line in lines] else "lines"


class ExplainDouble:
    """Explains reservations from the double's own events."""

    def __init__(self, ledger: LedgerDouble) -> None:
        self.error: LastunitError | None = None
        self.is_complete = True
        self._ledger = ledger

    async def explain_reservation(
        self, reservation_id: str
    ) -> Reply[stock_admin_service_pb2.ExplainReservationResponse]:
        """Lists what happened to a reservation."""
        if self.error is not None:
            raise self.error
        response = stock_admin_service_pb2.ExplainReservationResponse(
            result=outcome_pb2.Result(outcome=outcome_pb2.OUTCOME_OK),
            is_complete=self.is_complete,
            first_sequence=1,
        )
        for event in self._ledger.events:
            if event.reservation_id == reservation_id:
                response.transitions.add(
                    sequence=event.sequence,
                    time=event.time,
                    event=str(event.WhichOneof("body")),
                    state_to=reservation_pb2.STATE_HELD,
                    cause=event.request_id,
                    actor=event.caller,
                )
        return Reply(response)
