"""The blocking client of the stock ledger, for threads.

Owns a thread with an event loop and hands every call to the asyncio client in it, so that calls
of many threads share messages too. Must not repeat what that client does.
Next: `lastunit.client.aio`, which documents each call.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from lastunit import errors
from lastunit.client import aio
from lastunit.client.aio import (
    DEADLINE_SECONDS,
    ClientSecurity,
    Disposition,
    EventPage,
    ExchangeLimits,
    Level,
    Line,
    Outcome,
    PaymentResult,
    ReleaseReason,
    Reply,
    State,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    from lastunit.stock.v1 import event_pb2, place_pb2
    from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb
    from lastunit.stock.v1 import stock_service_pb2 as pb

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

ResultT = TypeVar("ResultT")

# A call's own deadline ends it; this only bounds a wait for a loop that has died.
_STARTUP_SECONDS: Final = 10.0


class _LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.is_closed = False
        self._thread = threading.Thread(target=self._serve, name="stock-client", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, start: Callable[[], Coroutine[Any, Any, ResultT]]) -> ResultT:
        """Runs a coroutine in the loop and waits for its result."""
        if self.is_closed:
            raise errors.ClosedError("the client is closed")
        if threading.current_thread() is self._thread:
            raise RuntimeError("the blocking client was called from its own event loop")
        future = asyncio.run_coroutine_threadsafe(start(), self._loop)
        try:
            return future.result()
        except BaseException:
            # A thread that is interrupted while it waits must not leave its call behind.
            future.cancel()
            raise

    def close(self) -> None:
        """Ends the loop and the thread."""
        if self.is_closed:
            return
        self.is_closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STARTUP_SECONDS)


class StockClient:
    """Calls one ledger and blocks until there is an answer; any thread may use it.

    Arguments, replies and errors are those of `lastunit.client.aio.StockClient`.

    Attributes:
        admin: What operators do.
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
        async def connect() -> aio.StockClient:
            return aio.StockClient(
                address,
                settlement_address=settlement_address,
                caller=caller,
                deadline_seconds=deadline_seconds,
                is_batching=is_batching,
                limits=limits,
                security=security,
                reader_id=reader_id,
                seed=seed,
            )

        self._thread = _LoopThread()
        try:
            self._client = self._thread.run(connect)
        except BaseException:
            self._thread.close()
            raise
        self.admin = AdminClient(self._thread, self._client.admin)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self, *, grace_seconds: float = 1.0) -> None:
        """Waits for answers under way, then ends everything; a second call does nothing."""
        if self._thread.is_closed:
            return
        self._thread.run(lambda: self._client.close(grace_seconds=grace_seconds))
        self._thread.close()

    @property
    def seen_sequence(self) -> int:
        """Highest sequence a reply has shown."""
        return self._client.seen_sequence

    def forget_seen(self) -> None:
        """Accepts a ledger that has lost what it told."""
        self._client.forget_seen()

    def reserve(
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
        """Sets units aside for one person, all lines or none."""
        return self._thread.run(
            lambda: self._client.reserve(
                reservation_id,
                sale_id=sale_id,
                person_id=person_id,
                lines=lines,
                ttl_seconds=ttl_seconds,
                not_after_ms=not_after_ms,
                deadline_seconds=deadline_seconds,
            )
        )

    def get_reservation(
        self, reservation_id: str, *, deadline_seconds: float | None = None
    ) -> Reply[pb.GetReservationResponse]:
        """Shows one reservation, or UNKNOWN_RESERVATION."""
        return self._thread.run(
            lambda: self._client.get_reservation(reservation_id, deadline_seconds=deadline_seconds)
        )

    def list_reservations(
        self,
        sale_id: str,
        *,
        person_id: str = "",
        state: State = State.UNSPECIFIED,
        page_size: int = 100,
        page_token: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ListReservationsResponse]:
        """Shows one page of a sale's reservations."""
        return self._thread.run(
            lambda: self._client.list_reservations(
                sale_id,
                person_id=person_id,
                state=state,
                page_size=page_size,
                page_token=page_token,
                deadline_seconds=deadline_seconds,
            )
        )

    def get_availability(
        self, sale_id: str, *, skus: Sequence[str] = (), deadline_seconds: float | None = None
    ) -> Reply[pb.GetAvailabilityResponse]:
        """Shows levels and counters."""
        return self._thread.run(
            lambda: self._client.get_availability(
                sale_id, skus=skus, deadline_seconds=deadline_seconds
            )
        )

    def watch_availability(
        self, sale_id: str, *, skus: Sequence[str] = ()
    ) -> Iterator[pb.WatchAvailabilityResponse]:
        """Follows levels and counters: first the present state, then what changed."""
        return self._iterate(lambda: self._client.watch_availability(sale_id, skus=skus))

    def begin_payment(
        self,
        attempt_id: str,
        *,
        reservation_id: str,
        provider: str = "",
        amount_minor: int = 0,
        currency: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.BeginPaymentResponse]:
        """Opens an attempt; durable when it returns, so the provider may be called."""
        return self._thread.run(
            lambda: self._client.begin_payment(
                attempt_id,
                reservation_id=reservation_id,
                provider=provider,
                amount_minor=amount_minor,
                currency=currency,
                deadline_seconds=deadline_seconds,
            )
        )

    def settle_payment(
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
        """Records what the provider says happened to an attempt."""
        return self._thread.run(
            lambda: self._client.settle_payment(
                request_id,
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                payment_result=payment_result,
                occurred_ms=occurred_ms,
                evidence=evidence,
                deadline_seconds=deadline_seconds,
            )
        )

    def confirm(
        self, request_id: str, *, reservation_id: str, deadline_seconds: float | None = None
    ) -> Reply[pb.ConfirmResponse]:
        """Sells a HELD reservation that needs no payment step."""
        return self._thread.run(
            lambda: self._client.confirm(
                request_id, reservation_id=reservation_id, deadline_seconds=deadline_seconds
            )
        )

    def release(
        self,
        request_id: str,
        *,
        reservation_id: str,
        release_reason: ReleaseReason = ReleaseReason.CLIENT,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ReleaseResponse]:
        """Gives units back; while a payment is open it only asks for that."""
        return self._thread.run(
            lambda: self._client.release(
                request_id,
                reservation_id=reservation_id,
                release_reason=release_reason,
                deadline_seconds=deadline_seconds,
            )
        )

    def extend(
        self,
        request_id: str,
        *,
        reservation_id: str,
        extension_seconds: float,
        deadline_seconds: float | None = None,
    ) -> Reply[pb.ExtendResponse]:
        """Lets a HELD reservation live longer."""
        return self._thread.run(
            lambda: self._client.extend(
                request_id,
                reservation_id=reservation_id,
                extension_seconds=extension_seconds,
                deadline_seconds=deadline_seconds,
            )
        )

    def return_units(
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
        """Takes sold units back."""
        return self._thread.run(
            lambda: self._client.return_units(
                request_id,
                reservation_id=reservation_id,
                sku=sku,
                units=units,
                disposition=disposition,
                pool=pool,
                give_limit_back=give_limit_back,
                deadline_seconds=deadline_seconds,
            )
        )

    def record_refund(
        self,
        request_id: str,
        *,
        reservation_id: str,
        attempt_id: str,
        evidence: str = "",
        deadline_seconds: float | None = None,
    ) -> Reply[pb.RecordRefundResponse]:
        """Records that an attempt's money went back."""
        return self._thread.run(
            lambda: self._client.record_refund(
                request_id,
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                evidence=evidence,
                deadline_seconds=deadline_seconds,
            )
        )

    def read_events(
        self, after_sequence: int = 0, *, follow: bool = True, page_size: int = 1024
    ) -> Iterator[event_pb2.Event]:
        """Gives out durable events in order, without a gap, across lost connections."""
        return self._iterate(
            lambda: self._client.read_events(after_sequence, follow=follow, page_size=page_size)
        )

    def read_event_pages(
        self, after_sequence: int = 0, *, follow: bool = True, page_size: int = 1024
    ) -> Iterator[EventPage]:
        """Is `read_events` page by page."""
        return self._iterate(
            lambda: self._client.read_event_pages(
                after_sequence, follow=follow, page_size=page_size
            )
        )

    def send(self, request: Any, *, deadline_seconds: float | None = None) -> Any:
        """Sends a message of the contract as it is and returns the response message."""
        return self._thread.run(
            lambda: self._client.send(request, deadline_seconds=deadline_seconds)
        )

    def read_event_page(
        self, after_sequence: int, *, page_size: int = 1024, deadline_seconds: float | None = None
    ) -> EventPage:
        """Reads one page of durable events."""
        return self._thread.run(
            lambda: self._client.read_event_page(
                after_sequence, page_size=page_size, deadline_seconds=deadline_seconds
            )
        )

    def _iterate(self, start: Callable[[], AsyncIterator[ResultT]]) -> Iterator[ResultT]:
        stream: Any = start()
        end = object()

        async def following() -> Any:
            return await anext(stream, end)

        try:
            while (item := self._thread.run(following)) is not end:
                yield item
        finally:
            self._thread.run(stream.aclose)


class AdminClient:
    """Blocks on the calls of `lastunit.client.aio.AdminClient`."""

    def __init__(self, thread: _LoopThread, admin: aio.AdminClient) -> None:
        self._thread = thread
        self._admin = admin

    def put_sale(self, request: admin_pb.PutSaleRequest) -> Reply[admin_pb.PutSaleResponse]:
        """Makes a sale or changes its times and policy."""
        return self._thread.run(lambda: self._admin.put_sale(request))

    def set_sale_state(
        self, request: admin_pb.SetSaleStateRequest
    ) -> Reply[admin_pb.SetSaleStateResponse]:
        """Moves a sale to another state."""
        return self._thread.run(lambda: self._admin.set_sale_state(request))

    def put_pool(self, request: admin_pb.PutPoolRequest) -> Reply[admin_pb.PutPoolResponse]:
        """Makes a pool or changes its place, labels or offer."""
        return self._thread.run(lambda: self._admin.put_pool(request))

    def supply_stock(
        self, request: admin_pb.SupplyStockRequest
    ) -> Reply[admin_pb.SupplyStockResponse]:
        """Adds units to a pool or its buffer."""
        return self._thread.run(lambda: self._admin.supply_stock(request))

    def withdraw_stock(
        self, request: admin_pb.WithdrawStockRequest
    ) -> Reply[admin_pb.WithdrawStockResponse]:
        """Takes units out of a pool or its buffer."""
        return self._thread.run(lambda: self._admin.withdraw_stock(request))

    def adjust_stock(
        self, request: admin_pb.AdjustStockRequest
    ) -> Reply[admin_pb.AdjustStockResponse]:
        """Sets what is available, if it is what the caller believed."""
        return self._thread.run(lambda: self._admin.adjust_stock(request))

    def move_stock(self, request: admin_pb.MoveStockRequest) -> Reply[admin_pb.MoveStockResponse]:
        """Moves available units from one pool to another."""
        return self._thread.run(lambda: self._admin.move_stock(request))

    def pour_buffer(
        self, request: admin_pb.PourBufferRequest
    ) -> Reply[admin_pb.PourBufferResponse]:
        """Offers units of a pool's buffer."""
        return self._thread.run(lambda: self._admin.pour_buffer(request))

    def release_unverified(
        self, request: admin_pb.ReleaseUnverifiedRequest
    ) -> Reply[admin_pb.ReleaseUnverifiedResponse]:
        """Gives an overdue reservation's units back without the provider's word, if allowed."""
        return self._thread.run(lambda: self._admin.release_unverified(request))

    def merge_persons(
        self, request: admin_pb.MergePersonsRequest
    ) -> Reply[admin_pb.MergePersonsResponse]:
        """Counts everything of one person as another's."""
        return self._thread.run(lambda: self._admin.merge_persons(request))

    def split_persons(
        self, request: admin_pb.SplitPersonsRequest
    ) -> Reply[admin_pb.SplitPersonsResponse]:
        """Counts persons apart from those they were merged with."""
        return self._thread.run(lambda: self._admin.split_persons(request))

    def set_expiry_brake(
        self, request: admin_pb.SetExpiryBrakeRequest
    ) -> Reply[admin_pb.SetExpiryBrakeResponse]:
        """Stops or allows the release of held units by the clock."""
        return self._thread.run(lambda: self._admin.set_expiry_brake(request))

    def audit(self, *, deadline_seconds: float | None = None) -> Reply[admin_pb.AuditResponse]:
        """Checks every invariant over the whole ledger."""
        return self._thread.run(lambda: self._admin.audit(deadline_seconds=deadline_seconds))

    def explain_reservation(
        self, reservation_id: str
    ) -> Reply[admin_pb.ExplainReservationResponse]:
        """Shows every move in the life of a reservation."""
        return self._thread.run(lambda: self._admin.explain_reservation(reservation_id))

    def set_clock(self, now_ms: int, *, deadline_seconds: float | None = None) -> place_pb2.Place:
        """Sets ledger time and runs every timer that is due; only on a manual clock."""
        return self._thread.run(
            lambda: self._admin.set_clock(now_ms, deadline_seconds=deadline_seconds)
        )
