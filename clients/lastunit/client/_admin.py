"""What operators do to sales and stock, and how they look into the ledger.

Owns the admin calls. They take the request message itself: they are rare, each has its own
fields, and whoever writes one reads the contract anyway. Next: `proto/lastunit/stock/v1`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.client._requests import instant
from lastunit.client._unary import check_deadline
from lastunit.client.outcomes import Reply
from lastunit.stock.v1 import rehearsal_service_pb2, stock_admin_service_pb2

if TYPE_CHECKING:
    from lastunit.client._unary import UnaryCaller
    from lastunit.stock.v1 import place_pb2

__all__ = ["AdminClient"]

_ADMIN: Final = "/lastunit.stock.v1.StockAdminService/"
_REHEARSAL: Final = "/lastunit.stock.v1.RehearsalService/"

pb = stock_admin_service_pb2


class AdminClient:
    """Calls StockAdminService and RehearsalService on the settlement listener.

    Each change carries a `request_id`, an `actor` and a `reason` in its message; a repeat returns
    the first reply. Errors are those of `StockClient`.

    Args:
        unary: Where to call.
        deadline_seconds: Of each call, for all tries.
    """

    def __init__(self, unary: UnaryCaller, *, deadline_seconds: float) -> None:
        self._unary = unary
        self._deadline_seconds = deadline_seconds

    async def put_sale(self, request: pb.PutSaleRequest) -> Reply[pb.PutSaleResponse]:
        """Makes a sale or changes its times and policy."""
        return await self._call("PutSale", request, pb.PutSaleResponse)

    async def set_sale_state(
        self, request: pb.SetSaleStateRequest
    ) -> Reply[pb.SetSaleStateResponse]:
        """Moves a sale to another state."""
        return await self._call("SetSaleState", request, pb.SetSaleStateResponse)

    async def put_pool(self, request: pb.PutPoolRequest) -> Reply[pb.PutPoolResponse]:
        """Makes a pool or changes its place, labels or offer."""
        return await self._call("PutPool", request, pb.PutPoolResponse)

    async def supply_stock(self, request: pb.SupplyStockRequest) -> Reply[pb.SupplyStockResponse]:
        """Adds units to a pool or its buffer."""
        return await self._call("SupplyStock", request, pb.SupplyStockResponse)

    async def withdraw_stock(
        self, request: pb.WithdrawStockRequest
    ) -> Reply[pb.WithdrawStockResponse]:
        """Takes units out of a pool or its buffer."""
        return await self._call("WithdrawStock", request, pb.WithdrawStockResponse)

    async def adjust_stock(self, request: pb.AdjustStockRequest) -> Reply[pb.AdjustStockResponse]:
        """Sets what is available, if it is what the caller believed."""
        return await self._call("AdjustStock", request, pb.AdjustStockResponse)

    async def move_stock(self, request: pb.MoveStockRequest) -> Reply[pb.MoveStockResponse]:
        """Moves available units from one pool to another."""
        return await self._call("MoveStock", request, pb.MoveStockResponse)

    async def pour_buffer(self, request: pb.PourBufferRequest) -> Reply[pb.PourBufferResponse]:
        """Offers units of a pool's buffer."""
        return await self._call("PourBuffer", request, pb.PourBufferResponse)

    async def release_unverified(
        self, request: pb.ReleaseUnverifiedRequest
    ) -> Reply[pb.ReleaseUnverifiedResponse]:
        """Gives an overdue reservation's units back without the provider's word, if allowed."""
        return await self._call("ReleaseUnverified", request, pb.ReleaseUnverifiedResponse)

    async def merge_persons(
        self, request: pb.MergePersonsRequest
    ) -> Reply[pb.MergePersonsResponse]:
        """Counts everything of one person as another's."""
        return await self._call("MergePersons", request, pb.MergePersonsResponse)

    async def split_persons(
        self, request: pb.SplitPersonsRequest
    ) -> Reply[pb.SplitPersonsResponse]:
        """Counts persons apart from those they were merged with."""
        return await self._call("SplitPersons", request, pb.SplitPersonsResponse)

    async def set_expiry_brake(
        self, request: pb.SetExpiryBrakeRequest
    ) -> Reply[pb.SetExpiryBrakeResponse]:
        """Stops or allows the release of held units by the clock."""
        return await self._call("SetExpiryBrake", request, pb.SetExpiryBrakeResponse)

    async def audit(self, *, deadline_seconds: float | None = None) -> Reply[pb.AuditResponse]:
        """Checks every invariant over the whole ledger.

        Args:
            deadline_seconds: The time grows with the number of reservations; None: as set.
        """
        return await self._call("Audit", pb.AuditRequest(), pb.AuditResponse, deadline_seconds)

    async def explain_reservation(
        self, reservation_id: str
    ) -> Reply[pb.ExplainReservationResponse]:
        """Shows every move in the life of a reservation."""
        request = pb.ExplainReservationRequest(reservation_id=reservation_id)
        return await self._call("ExplainReservation", request, pb.ExplainReservationResponse)

    async def set_clock(
        self, now_ms: int, *, deadline_seconds: float | None = None
    ) -> place_pb2.Place:
        """Sets ledger time and runs every timer that is due; only on a manual clock.

        Args:
            now_ms: Milliseconds since the epoch; never less than before.
            deadline_seconds: Many timers take time; None: as set.

        Returns:
            Where the ledger stands after all timers.
        """
        response = await self._unary.call(
            _REHEARSAL + "SetClock",
            rehearsal_service_pb2.SetClockRequest(now_time=instant(now_ms)),
            rehearsal_service_pb2.SetClockResponse,
            deadline_seconds=self._deadline(deadline_seconds),
        )
        place: place_pb2.Place = response.place
        return place

    async def _call(
        self,
        name: str,
        request: Any,
        response_type: Any,
        deadline_seconds: float | None = None,
    ) -> Reply[Any]:
        response = await self._unary.call(
            _ADMIN + name,
            request,
            response_type,
            deadline_seconds=self._deadline(deadline_seconds),
        )
        return Reply(response)

    def _deadline(self, deadline_seconds: float | None) -> float:
        if deadline_seconds is None:
            return self._deadline_seconds
        return check_deadline(deadline_seconds)
