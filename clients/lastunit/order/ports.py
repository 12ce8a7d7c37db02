"""What the order service needs of the ledger and of the payment service.

Owns the shapes only; `lastunit.client.aio.StockClient` is the first, and `PaymentCore` or a gRPC
client the second. Must not know channels. Next: `lastunit.order.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.client.aio import EventPage
    from lastunit.client.outcomes import Disposition, Line, Reply
    from lastunit.payment.v1 import payment_service_pb2
    from lastunit.stock.v1 import stock_admin_service_pb2, stock_service_pb2

__all__ = ["ExplainPort", "LedgerPort", "PaymentPort"]


class ExplainPort(Protocol):
    """Asks what the ledger's journal has of one reservation."""

    async def explain_reservation(
        self, reservation_id: str
    ) -> Reply[stock_admin_service_pb2.ExplainReservationResponse]:
        """Lists the reservation's moves."""
        ...


class LedgerPort(Protocol):
    """Asks the ledger; every method raises a `LastunitError` if there was no answer."""

    @property
    def admin(self) -> ExplainPort:
        """Explains reservations."""
        ...

    async def reserve(
        self,
        reservation_id: str,
        *,
        sale_id: str,
        person_id: str,
        lines: Sequence[Line],
        not_after_ms: int | None = None,
    ) -> Reply[stock_service_pb2.ReserveResponse]:
        """Sets units aside."""
        ...

    async def begin_payment(
        self,
        attempt_id: str,
        *,
        reservation_id: str,
        provider: str = "",
        amount_minor: int = 0,
        currency: str = "",
    ) -> Reply[stock_service_pb2.BeginPaymentResponse]:
        """Opens an attempt; durable when it returns."""
        ...

    async def release(
        self, request_id: str, *, reservation_id: str
    ) -> Reply[stock_service_pb2.ReleaseResponse]:
        """Gives units back, or asks for that while a payment is open."""
        ...

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
        """Takes sold units back; the sale's policy says whether the person may buy them again."""
        ...

    async def get_reservation(
        self, reservation_id: str
    ) -> Reply[stock_service_pb2.GetReservationResponse]:
        """Shows a reservation."""
        ...

    async def get_availability(
        self, sale_id: str, *, skus: Sequence[str] = ()
    ) -> Reply[stock_service_pb2.GetAvailabilityResponse]:
        """Shows which pools have how many units."""
        ...

    async def read_event_page(self, after_sequence: int, *, page_size: int = 1024) -> EventPage:
        """Returns the next durable events, none if there are none yet."""
        ...


class PaymentPort(Protocol):
    """Asks the payment service; raises a `LastunitError` if there was no answer."""

    async def start_attempt(
        self, request: payment_service_pb2.StartAttemptRequest
    ) -> payment_service_pb2.StartAttemptResponse:
        """Starts an attempt; a repeat carries on with it."""
        ...

    async def refund_attempt(
        self, request: payment_service_pb2.RefundAttemptRequest
    ) -> payment_service_pb2.RefundAttemptResponse:
        """Gives money of an attempt back; a repeat tells how far that is."""
        ...

    async def list_transitions(
        self, request: payment_service_pb2.ListTransitionsRequest
    ) -> payment_service_pb2.ListTransitionsResponse:
        """Lists the moves of an order's attempts and refunds."""
        ...
