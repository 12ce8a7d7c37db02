"""The asyncio client of the stock ledger.

Owns the typed calls and where each one goes. Must not hold stock rules: it asks. Next:
`lastunit.client._exchange` for how calls share messages, `lastunit.client.sync` for threads.

```python
async with StockClient("127.0.0.1:7401", settlement_address="127.0.0.1:7402") as client:
    reply = await client.reserve(
        "order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")]
    )
    if reply.outcome is Outcome.SOLD_OUT and reply.level is not Level.GONE:
        ...  # units are held or being paid for and may come back
```
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, overload

from lastunit import tracing
from lastunit.client import _requests
from lastunit.client._admin import AdminClient
from lastunit.client._connection import open_channel
from lastunit.client._events import EventPage, EventReader
from lastunit.client._exchange import Exchange, ExchangeLimits
from lastunit.client._seen import Seen
from lastunit.client._unary import UnaryCaller, check_deadline
from lastunit.client.outcomes import (
    Disposition,
    Level,
    Line,
    Outcome,
    PaymentResult,
    ReleaseReason,
    Reply,
    State,
)
from lastunit.client.security import ClientSecurity
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lastunit.stock.v1 import event_pb2

__all__ = [
    "AdminClient",
    "ClientSecurity",
    "Disposition",
    "EventPage",
    "ExchangeLimits",
    "Level",
    "Line",
    "Outcome",
    "PaymentResult",
    "ReleaseReason",
    "Reply",
    "State",
    "StockClient",
]

_SERVICE: Final = "/lastunit.stock.v1.StockService/"

DEADLINE_SECONDS: Final = 5.0
"""The deadline of a call that names none."""


class StockClient:
    """Calls one ledger over its two listeners.

    Create it inside a running event loop and close it, best by `async with`. Every call is safe
    to repeat with the same id, and the client repeats UNAVAILABLE ones itself until the deadline.

    All calls raise, beside what they name: InvalidArgumentError (the request breaks the
    contract), ShedError (admission: not now), UnavailableError and DeadlineExceededError (the
    effect is unknown, ask again with the same id), RolledBackError (the ledger has lost what it
    told), BusyError (too many calls of this client are open), ClosedError.

    Args:
        address: Data listener, `host:port`: reservations and reads.
        settlement_address: Settlement listener: payments, releases, admin; the data listener if
            None, which gives the protection of settlement up.
        caller: Name that admission knows this client under, 1 to 64 bytes of
            `[A-Za-z0-9._:-]`; empty: anonymous.
        deadline_seconds: For calls that name none, more than 0, at most an hour.
        is_batching: False sends each call alone, so that the server knows its deadline.
        limits: Bounds of each of the two batch streams.
        security: Whom to trust and who we are; None speaks plain text and only says `caller`.
        reader_id: Under which name the journal keeps the events that this client has yet to read,
            1 to 64 bytes of `[A-Za-z0-9._:-]` that no other reader has; empty keeps nothing.
        seed: Of the jitter of retries; None: unpredictable.

    Attributes:
        admin: What operators do: sales, pools, stock, audit, the rehearsal clock.
    """

    def __init__(
        self,
        address: str,
        *,
        settlement_address: str | None = None,
        caller: str = "",
        deadline_seconds: float = DEADLINE_SECONDS,
        is_batching: bool = True,
        limits: ExchangeLimits | None = None,
        security: ClientSecurity | None = None,
        reader_id: str = "",
        seed: int | None = None,
    ) -> None:
        self._deadline_seconds = check_deadline(deadline_seconds)
        self._is_batching = is_batching
        security = security or ClientSecurity()
        self._seen = Seen(caller, security)
        jitter = random.Random(seed)  # noqa: S311 - spreads retries, keeps no secret
        limits = limits or ExchangeLimits()
        data = open_channel(address, security)
        settlement = data
        if settlement_address is not None:
            settlement = open_channel(settlement_address, security)
        self._channels = {data, settlement}
        self._data = Exchange(data, seen=self._seen, limits=limits, jitter=jitter)
        self._settlement = Exchange(settlement, seen=self._seen, limits=limits, jitter=jitter)
        self._data_unary = UnaryCaller(data, seen=self._seen, jitter=jitter)
        self._settlement_unary = UnaryCaller(settlement, seen=self._seen, jitter=jitter)
        self._events = EventReader(data, seen=self._seen, jitter=jitter, reader_id=reader_id)
        self.admin = AdminClient(self._settlement_unary, deadline_seconds=self._deadline_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()

    async def close(self, *, grace_seconds: float = 1.0) -> None:
        """Waits for answers under way, then ends every stream and connection.

        Args:
            grace_seconds: Seconds to wait, 0 or more; what is open then raises ClosedError.
        """
        for exchange in (self._data, self._settlement):
            await exchange.close(grace_seconds)
        for channel in self._channels:
            await channel.close()

    @property
    def seen_sequence(self) -> int:
        """Highest sequence a reply has shown; the ledger must never fall behind it."""
        return self._seen.sequence

    def forget_seen(self) -> None:
        """Accepts a ledger that has lost what it told, after a RolledBackError was handled."""
        self._seen.forget()
        for exchange in (self._data, self._settlement):
            exchange.renew()

    # --- reservations ---

    async def reserve(
        self,
        reservation_id: str,
        *,
        sale_id: str,
        person_id: str,
        lines: Sequence[Line],
        ttl_seconds: float | None = None,
        not_after_ms: int | None = None,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ReserveResponse]:
        """Sets units aside for one person, all lines or none.

        Args:
            reservation_id: Chosen by the caller; a repeat returns the first reply.
            sale_id: Where to draw from.
            person_id: Who stands behind the account; limits count it.
            lines: 1 to 32.
            ttl_seconds: Until the reservation may lapse; None: what the sale says.
            not_after_ms: The ledger refuses as TOO_LATE after this instant, in milliseconds
                since the epoch, so that a late duplicate is harmless.
            deadline_seconds: For all tries; None: the client's.

        Returns:
            OK with what was taken and when it lapses, or the first refusal in precedence order.
        """
        request = _requests.reserve(
            reservation_id,
            sale_id=sale_id,
            person_id=person_id,
            lines=lines,
            ttl_seconds=ttl_seconds,
            not_after_ms=not_after_ms,
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def get_reservation(
        self, reservation_id: str, *, deadline_seconds: float | None = None
    ) -> Reply[pb.GetReservationResponse]:
        """Shows one reservation, or UNKNOWN_RESERVATION; asked on the settlement listener.

        Args:
            reservation_id: The one to show.
            deadline_seconds: For all tries; None: the client's.
        """
        request = pb.GetReservationRequest(reservation_id=reservation_id)
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def list_reservations(
        self,
        sale_id: str,
        *,
        person_id: str = "",
        state: State = State.UNSPECIFIED,
        page_size: int = 100,
        page_token: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ListReservationsResponse]:
        """Shows one page of a sale's reservations.

        Args:
            sale_id: The sale.
            person_id: Only this person's; empty: everybody's.
            state: Only those in this state; UNSPECIFIED: in any.
            page_size: 1 to 1,000.
            page_token: `next_page_token` of the page before; empty: the first page.
            deadline_seconds: For all tries; None: the client's.
        """
        request = pb.ListReservationsRequest(
            sale_id=sale_id,
            person_id=person_id,
            state=reservation_pb2.State.ValueType(state),
            page_size=page_size,
            page_token=page_token,
        )
        response = await self._data_unary.call(
            _SERVICE + "ListReservations",
            request,
            pb.ListReservationsResponse,
            deadline_seconds=self._deadline(deadline_seconds),
        )
        return Reply(response)

    async def get_availability(
        self, sale_id: str, *, skus: Sequence[str] = (), deadline_seconds: float | None = None
    ) -> Reply[pb.GetAvailabilityResponse]:
        """Shows levels and counters.

        Args:
            sale_id: The sale.
            skus: At most 256; empty: all of the sale.
            deadline_seconds: For all tries; None: the client's.
        """
        response = await self._data_unary.call(
            _SERVICE + "GetAvailability",
            pb.GetAvailabilityRequest(sale_id=sale_id, skus=skus),
            pb.GetAvailabilityResponse,
            deadline_seconds=self._deadline(deadline_seconds),
        )
        return Reply(response)

    def watch_availability(
        self, sale_id: str, *, skus: Sequence[str] = ()
    ) -> AsyncIterator[pb.WatchAvailabilityResponse]:
        """Follows levels and counters: first the present state, then what changed.

        After a lost connection the present state comes again, so nothing is missed; changes that
        follow each other quickly come as one.

        Args:
            sale_id: The sale.
            skus: At most 256; empty: all of the sale.
        """
        request = pb.WatchAvailabilityRequest(sale_id=sale_id, skus=skus)
        return self._events.watch_availability(request)

    # --- settlement ---

    async def begin_payment(
        self,
        attempt_id: str,
        *,
        reservation_id: str,
        provider: str = "",
        amount_minor: int = 0,
        currency: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.BeginPaymentResponse]:
        """Opens an attempt; durable when it returns, so the provider may be called.

        Args:
            attempt_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: HELD, PAYING or RELEASED(EXPIRED), which is re-taken if units allow.
            provider: Who will be paid through.
            amount_minor: In minor units of the currency, 0 or more.
            currency: Three capitals; empty: not told.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.begin_payment(
            attempt_id,
            reservation_id=reservation_id,
            provider=provider,
            amount_minor=amount_minor,
            currency=currency,
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def settle_payment(
        self,
        request_id: str,
        *,
        reservation_id: str,
        attempt_id: str,
        payment_result: PaymentResult,
        occurred_ms: int | None = None,
        evidence: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.SettlePaymentResponse]:
        """Records what the provider says happened to an attempt.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: The reservation the attempt pays for.
            attempt_id: The attempt, registered or not.
            payment_result: The provider's word.
            occurred_ms: When it happened at the provider, milliseconds since the epoch.
            evidence: The provider's reference, at most 256 bytes.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.settle_payment(
            request_id,
            reservation_id=reservation_id,
            attempt_id=attempt_id,
            payment_result=payment_result,
            occurred_ms=occurred_ms,
            evidence=evidence,
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def confirm(
        self, request_id: str, *, reservation_id: str, deadline_seconds: float | None = None
    ) -> Reply[pb.ConfirmResponse]:
        """Sells a HELD reservation that needs no payment step.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: The reservation.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.confirm(request_id, reservation_id=reservation_id)
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def release(
        self,
        request_id: str,
        *,
        reservation_id: str,
        release_reason: ReleaseReason = ReleaseReason.CLIENT,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ReleaseResponse]:
        """Gives units back; while a payment is open it only asks for that.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: The reservation.
            release_reason: CLIENT or OPERATOR.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.release(
            request_id, reservation_id=reservation_id, release_reason=release_reason
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def extend(
        self,
        request_id: str,
        *,
        reservation_id: str,
        extension_seconds: float,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ExtendResponse]:
        """Lets a HELD reservation live longer, within the sale's longest life.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: The reservation.
            extension_seconds: Counted from now, 0.001 to 86,400.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.extend(
            request_id, reservation_id=reservation_id, extension_seconds=extension_seconds
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def return_units(
        self,
        request_id: str,
        *,
        reservation_id: str,
        sku: str,
        units: int,
        disposition: Disposition,
        pool: str = "",
        give_limit_back: bool | None = None,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ReturnResponse]:
        """Takes sold units back.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: CONFIRMED.
            sku: What comes back.
            units: 1 to what was sold and not yet returned.
            disposition: Where the units go.
            pool: Where they were taken from; empty: from wherever they were.
            give_limit_back: Whether the person may buy again; None: what the sale says.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.return_units(
            request_id,
            reservation_id=reservation_id,
            sku=sku,
            pool=pool,
            units=units,
            disposition=disposition,
            give_limit_back=give_limit_back,
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    async def record_refund(
        self,
        request_id: str,
        *,
        reservation_id: str,
        attempt_id: str,
        evidence: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.RecordRefundResponse]:
        """Records that an attempt's money went back.

        Args:
            request_id: Chosen by the caller; a repeat returns the first reply.
            reservation_id: The reservation of the attempt.
            attempt_id: REFUND_DUE.
            evidence: The provider's reference, at most 256 bytes.
            deadline_seconds: For all tries; None: the client's.
        """
        request = _requests.record_refund(
            request_id, reservation_id=reservation_id, attempt_id=attempt_id, evidence=evidence
        )
        return Reply(await self.send(request, deadline_seconds=deadline_seconds))

    # --- events ---

    def read_events(
        self, after_sequence: int = 0, *, follow: bool = True, page_size: int = 1024
    ) -> AsyncIterator[event_pb2.Event]:
        """Gives out durable events in order, without a gap, across lost connections.

        Args:
            after_sequence: Last sequence the reader has, 0 or more.
            follow: True waits for events to come; False ends with the last durable one.
            page_size: Events in one message, 1 to 4,096.

        Raises:
            EventsRemovedError: The journal begins after `after_sequence`.
        """
        return self._events.read_events(after_sequence, follow=follow, page_size=page_size)

    def read_event_pages(
        self, after_sequence: int = 0, *, follow: bool = True, page_size: int = 1024
    ) -> AsyncIterator[EventPage]:
        """Is `read_events` page by page: whole commands, never an empty page.

        Args:
            after_sequence: Last sequence the reader has, 0 or more.
            follow: True waits for events to come; False ends with the last durable one.
            page_size: Events in one message, 1 to 4,096.
        """
        return self._events.read_pages(after_sequence, follow=follow, page_size=page_size)

    async def read_event_page(
        self, after_sequence: int, *, page_size: int = 1024, deadline_seconds: float | None = None
    ) -> EventPage:
        """Reads one page of durable events, for loops that keep their own cursor.

        Args:
            after_sequence: Last sequence the reader has, 0 or more.
            page_size: 1 to 4,096; a command's events stay together, so a few more may come.
            deadline_seconds: For all tries; None: the client's.

        Returns:
            The events, none if there are none yet, and where the journal ends.
        """
        return await self._events.read_page(
            after_sequence,
            page_size=page_size,
            deadline_seconds=self._deadline(deadline_seconds),
        )

    # --- how a call goes out ---

    @overload
    async def send(
        self, request: pb.ReserveRequest, *, deadline_seconds: float | None = ...
    ) -> pb.ReserveResponse: ...
    @overload
    async def send(
        self, request: pb.BeginPaymentRequest, *, deadline_seconds: float | None = ...
    ) -> pb.BeginPaymentResponse: ...
    @overload
    async def send(
        self, request: pb.SettlePaymentRequest, *, deadline_seconds: float | None = ...
    ) -> pb.SettlePaymentResponse: ...
    @overload
    async def send(
        self, request: pb.ConfirmRequest, *, deadline_seconds: float | None = ...
    ) -> pb.ConfirmResponse: ...
    @overload
    async def send(
        self, request: pb.ReleaseRequest, *, deadline_seconds: float | None = ...
    ) -> pb.ReleaseResponse: ...
    @overload
    async def send(
        self, request: pb.ExtendRequest, *, deadline_seconds: float | None = ...
    ) -> pb.ExtendResponse: ...
    @overload
    async def send(
        self, request: pb.ReturnRequest, *, deadline_seconds: float | None = ...
    ) -> pb.ReturnResponse: ...
    @overload
    async def send(
        self, request: pb.RecordRefundRequest, *, deadline_seconds: float | None = ...
    ) -> pb.RecordRefundResponse: ...
    @overload
    async def send(
        self, request: pb.GetReservationRequest, *, deadline_seconds: float | None = ...
    ) -> pb.GetReservationResponse: ...

    async def send(self, request: Any, *, deadline_seconds: float | None = None) -> Any:
        """Sends a message of the contract as it is; what every typed call above does.

        Args:
            request: A request that `Exchange` carries.
            deadline_seconds: For all tries; None: the client's.

        Returns:
            The response message.
        """
        seconds = self._deadline(deadline_seconds)
        route = _ROUTES[type(request)]
        # A message of many has no place for the context of one: what is followed goes alone.
        if self._is_batching and not tracing.is_followed():
            exchange = self._settlement if route.is_settlement else self._data
            operation = pb.Operation(**{route.kind: request})
            part = pb.ExchangeRequest(operations=(operation,)).SerializeToString()
            return await exchange.submit(route.kind, part, seconds)
        unary = self._settlement_unary if route.is_settlement else self._data_unary
        return await unary.call(
            _SERVICE + route.method, request, route.response_type, deadline_seconds=seconds
        )

    def _deadline(self, deadline_seconds: float | None) -> float:
        if deadline_seconds is None:
            return self._deadline_seconds
        return check_deadline(deadline_seconds)


@dataclass(frozen=True, slots=True)
class _Route:
    """How one kind of operation travels."""

    kind: str
    method: str
    response_type: Any
    is_settlement: bool


def _route(method: str, *, kind: str = "", is_settlement: bool = True) -> tuple[type, _Route]:
    """Returns the route of a method; both ends of its name are those of the contract."""
    kind = kind or "".join(f"_{each.lower()}" if each.isupper() else each for each in method)[1:]
    response_type = getattr(pb, method + "Response")
    return getattr(pb, method + "Request"), _Route(kind, method, response_type, is_settlement)


_ROUTES: Final[dict[type, _Route]] = dict(
    (
        _route("Reserve", is_settlement=False),
        _route("BeginPayment"),
        _route("SettlePayment"),
        _route("Confirm"),
        _route("Release"),
        _route("Extend"),
        _route("Return", kind="return_units"),
        _route("RecordRefund"),
        _route("GetReservation"),
    )
)
