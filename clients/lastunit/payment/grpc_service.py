"""The payment service over gRPC.

Owns nothing but the passing on. Must not hold behaviour: `core` does.
Next: `lastunit.payment.core`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from lastunit.payment.core import CALLER_UNNAMED
from lastunit.payment.v1 import payment_service_pb2_grpc

if TYPE_CHECKING:
    from lastunit.payment.core import PaymentCore
    from lastunit.payment.v1 import payment_service_pb2 as pb

__all__ = ["OPERATOR_METHODS", "SERVICE_NAME", "PaymentServicer"]

SERVICE_NAME: Final = "lastunit.payment.v1.PaymentService"

OPERATOR_METHODS: Final = tuple(
    f"/{SERVICE_NAME}/{method}" for method in ("ResolveIncident", "ImportBill", "ReprocessCallback")
)
"""What moves money by somebody's word. RefundAttempt is the order service's, which asks who."""

_CALLER_KEY: Final = "lastunit-caller"
_CALLER_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


class PaymentServicer(payment_service_pb2_grpc.PaymentServiceServicer):
    """Passes each call on to the core.

    Args:
        core: The payment service.
    """

    def __init__(self, core: PaymentCore) -> None:
        self._core = core

    async def StartAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.StartAttemptRequest, context: Any
    ) -> pb.StartAttemptResponse:
        """Starts an attempt."""
        return await self._core.start_attempt(request, caller=_caller(context))

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
        self, request: pb.CloseAttemptRequest, context: Any
    ) -> pb.CloseAttemptResponse:
        """Closes an attempt at the provider."""
        return await self._core.close_attempt(request, caller=_caller(context))

    async def RefundAttempt(  # noqa: N802 - gRPC's name
        self, request: pb.RefundAttemptRequest, context: Any
    ) -> pb.RefundAttemptResponse:
        """Sends money back."""
        return await self._core.refund_attempt(request, caller=_caller(context))

    async def ListRefunds(  # noqa: N802 - gRPC's name
        self, request: pb.ListRefundsRequest, _context: Any
    ) -> pb.ListRefundsResponse:
        """Lists refunds."""
        return await self._core.list_refunds(request)

    async def ListTransitions(  # noqa: N802 - gRPC's name
        self, request: pb.ListTransitionsRequest, _context: Any
    ) -> pb.ListTransitionsResponse:
        """Lists what happened."""
        return await self._core.list_transitions(request)

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

    async def ListIncidents(  # noqa: N802 - gRPC's name
        self, request: pb.ListIncidentsRequest, _context: Any
    ) -> pb.ListIncidentsResponse:
        """Lists incidents."""
        return await self._core.list_incidents(request)

    async def ResolveIncident(  # noqa: N802 - gRPC's name
        self, request: pb.ResolveIncidentRequest, _context: Any
    ) -> pb.ResolveIncidentResponse:
        """Carries out what a human decides."""
        return await self._core.resolve_incident(request)

    async def ReprocessCallback(  # noqa: N802 - gRPC's name
        self, request: pb.ReprocessCallbackRequest, _context: Any
    ) -> pb.ReprocessCallbackResponse:
        """Acts once more on a stored callback."""
        return await self._core.reprocess_callback(request)

    async def ImportBill(  # noqa: N802 - gRPC's name
        self, request: pb.ImportBillRequest, context: Any
    ) -> pb.ImportBillResponse:
        """Compares a page of a bill with the books."""
        return await self._core.import_bill(request, caller=_caller(context))

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


def _caller(context: Any) -> str:
    """Returns how the caller names itself; a name is a note for the record, not a permission."""
    told = dict(context.invocation_metadata() or ()).get(_CALLER_KEY, "")
    return told if isinstance(told, str) and _CALLER_PATTERN.fullmatch(told) else CALLER_UNNAMED
