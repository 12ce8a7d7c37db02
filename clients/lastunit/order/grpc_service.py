"""The order service over gRPC.

Owns nothing but the passing on. Must not hold behaviour: `core` does.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.order.v1 import order_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit.order.core import OrderCore
    from lastunit.order.v1 import order_service_pb2 as pb

__all__ = ["OPERATOR_METHODS", "SERVICE_NAME", "OrderServicer"]

SERVICE_NAME: Final = "lastunit.order.v1.OrderService"

OPERATOR_METHODS: Final = tuple(
    f"/{SERVICE_NAME}/{method}" for method in ("Refund", "ReturnGoods", "Ship", "Deliver")
)
"""What moves money or goods by somebody's word."""


class OrderServicer(order_service_pb2_grpc.OrderServiceServicer):
    """Passes each call on to the core.

    Args:
        core: The order service.
    """

    def __init__(self, core: OrderCore) -> None:
        self._core = core

    async def Quote(  # noqa: N802 - gRPC's name
        self, request: pb.QuoteRequest, _context: Any
    ) -> pb.QuoteResponse:
        """Says what an order would cost."""
        return await self._core.quote(request)

    async def PlaceOrder(  # noqa: N802 - gRPC's name
        self, request: pb.PlaceOrderRequest, _context: Any
    ) -> pb.PlaceOrderResponse:
        """Places an order."""
        return await self._core.place_order(request)

    async def Pay(  # noqa: N802 - gRPC's name
        self, request: pb.PayRequest, _context: Any
    ) -> pb.PayResponse:
        """Opens an attempt to pay."""
        return await self._core.pay(request)

    async def Cancel(  # noqa: N802 - gRPC's name
        self, request: pb.CancelRequest, _context: Any
    ) -> pb.CancelResponse:
        """Cancels an order."""
        return await self._core.cancel(request)

    async def GetOrder(  # noqa: N802 - gRPC's name
        self, request: pb.GetOrderRequest, _context: Any
    ) -> pb.GetOrderResponse:
        """Shows an order."""
        return await self._core.get_order(request)

    async def ListOrders(  # noqa: N802 - gRPC's name
        self, request: pb.ListOrdersRequest, _context: Any
    ) -> pb.ListOrdersResponse:
        """Lists orders."""
        return await self._core.list_orders(request)

    async def WatchOrder(  # noqa: N802 - gRPC's name
        self, request: pb.WatchOrderRequest, _context: Any
    ) -> AsyncIterator[pb.WatchOrderResponse]:
        """Streams an order's transitions."""
        async for response in self._core.watch.watch(request):
            yield response

    async def Explain(  # noqa: N802 - gRPC's name
        self, request: pb.ExplainRequest, _context: Any
    ) -> pb.ExplainResponse:
        """Explains an order."""
        return await self._core.explain(request)

    async def Refund(  # noqa: N802 - gRPC's name
        self, request: pb.RefundRequest, _context: Any
    ) -> pb.RefundResponse:
        """Gives money back."""
        return await self._core.refund(request)

    async def ReturnGoods(  # noqa: N802 - gRPC's name
        self, request: pb.ReturnGoodsRequest, _context: Any
    ) -> pb.ReturnGoodsResponse:
        """Takes goods back."""
        return await self._core.return_goods(request)

    async def Ship(  # noqa: N802 - gRPC's name
        self, request: pb.ShipRequest, _context: Any
    ) -> pb.ShipResponse:
        """Says that the goods left."""
        return await self._core.ship(request)

    async def Deliver(  # noqa: N802 - gRPC's name
        self, request: pb.DeliverRequest, _context: Any
    ) -> pb.DeliverResponse:
        """Says that the goods arrived."""
        return await self._core.deliver(request)
