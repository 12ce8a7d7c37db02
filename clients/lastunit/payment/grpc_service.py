"""The payment service over gRPC.

Owns nothing but the passing on. Must not hold behaviour: `core` does.
Next: `lastunit.payment.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.payment.v1 import payment_service_pb2_grpc

if TYPE_CHECKING:
    from lastunit.payment.core import PaymentCore
    from lastunit.payment.v1 import payment_service_pb2 as pb

__all__ = ["SERVICE_NAME", "PaymentServicer"]

SERVICE_NAME = "lastunit.payment.v1.PaymentService"


class PaymentServicer(payment_service_pb2_grpc.PaymentServiceServicer):
    """Passes each call on to the core.

    Args:
        core: The payment service.
    """

    def __init__(self, core: PaymentCore) -> None:
        self._core = core

    async def StartAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.StartAttemptRequest, _context: Any
    ) -> pb.StartAttemptResponse:
        """Starts an attempt."""
        return await self._core.start_attempt(request)

    async def GetAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.GetAttemptRequest, _context: Any
    ) -> pb.GetAttemptResponse:
        """Shows an attempt."""
        return await self._core.get_attempt(request)

    async def AskNow(  # noqa: N802 - gRPC's name
        self, request: pb.AskNowRequest, _context: Any
    ) -> pb.AskNowResponse:
        """Asks the provider now."""
        return await self._core.ask_now(request)

    async def CloseAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.CloseAttemptRequest, _context: Any
    ) -> pb.CloseAttemptResponse:
        """Closes an attempt at the provider."""
        return await self._core.close_attempt(request)

    async def RefundAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.RefundAttemptRequest, _context: Any
    ) -> pb.RefundAttemptResponse:
        """Sends the money of a quarantined attempt back."""
        return await self._core.refund_attempt(request)

    async def ListAttempts(  # noqa: N802 - gRPC's name
        self, request: pb.ListAttemptsRequest, _context: Any
    ) -> pb.ListAttemptsResponse:
        """Lists attempts."""
        return await self._core.list_attempts(request)

    async def ListOrphans(  # noqa: N802 - gRPC's name
        self, request: pb.ListOrphansRequest, _context: Any
    ) -> pb.ListOrphansResponse:
        """Lists orphans."""
        return await self._core.list_orphans(request)

    async def ListProviders(  # noqa: N802 - gRPC's name
        self, request: pb.ListProvidersRequest, _context: Any
    ) -> pb.ListProvidersResponse:
        """Lists the providers."""
        return await self._core.list_providers(request)

    async def GetTotals(  # noqa: N802 - gRPC's name
        self, request: pb.GetTotalsRequest, _context: Any
    ) -> pb.GetTotalsResponse:
        """Sums up."""
        return await self._core.get_totals(request)
