"""What the payment service needs of the ledger; `lastunit.client.aio.StockClient` has it all.

Owns the shape only, so that a test can stand in for the ledger. Must not know channels.
Next: `lastunit.payment.teller`, `lastunit.payment.follower`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lastunit.client.aio import EventPage
    from lastunit.client.outcomes import PaymentResult, Reply
    from lastunit.stock.v1 import stock_service_pb2

__all__ = ["JournalPort", "LedgerPort", "SettlementPort"]


class SettlementPort(Protocol):
    """Tells the ledger of money, over its settlement listener.

    Every method raises a `LastunitError` if there was no answer; the effect is then unknown and
    the same id is sent again.
    """

    async def settle_payment(
        self,
        request_id: str,
        *,
        reservation_id: str,
        attempt_id: str,
        payment_result: PaymentResult,
        occurred_ms: int | None = None,
        evidence: str = "",
    ) -> Reply[stock_service_pb2.SettlePaymentResponse]:
        """Records what the provider says happened."""
        ...

    async def record_refund(
        self, request_id: str, *, reservation_id: str, attempt_id: str, evidence: str = ""
    ) -> Reply[stock_service_pb2.RecordRefundResponse]:
        """Records that an attempt's money was given back."""
        ...


class JournalPort(Protocol):
    """Reads the ledger's events."""

    async def read_event_page(self, after_sequence: int, *, page_size: int = 1024) -> EventPage:
        """Returns the next durable events, none if there are none yet."""
        ...


class LedgerPort(SettlementPort, JournalPort, Protocol):
    """Is everything the payment service needs of the ledger."""
