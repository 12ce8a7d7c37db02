"""Asks the order service whether an order of an account is being paid.

Owns the call. Must not know what closing an account means. Next: `lastunit.account.locking`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.errors import UnavailableError
from lastunit.order.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc

if TYPE_CHECKING:
    from typing import Self

__all__ = ["OrderBook"]

_PAGE_SIZE: Final = 1_000
_SECONDS_MAX: Final = 5.0


class OrderBook:
    """Is a client of OrderService.

    Args:
        address: `host:port`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def is_paying(self, account_id: str) -> bool:
        """Tells whether an order of the account is being paid.

        Raises:
            UnavailableError: The order service does not answer.
        """
        if self._channel is None:
            # Here, because a channel belongs to the loop that runs when it is made.
            self._channel = grpc.aio.insecure_channel(self._address)
        stub: Any = order_service_pb2_grpc.OrderServiceStub(self._channel)
        request = order_service_pb2.ListOrdersRequest(account_id=account_id, page_size=_PAGE_SIZE)
        try:
            while True:
                page = await stub.ListOrders(request, timeout=_SECONDS_MAX)
                if any(order.state == order_pb2.ORDER_STATE_PAYING for order in page.orders):
                    return True
                if not page.next_page_token:
                    return False
                request.page_token = page.next_page_token
        except grpc.aio.AioRpcError as error:
            raise UnavailableError(
                f"the order service at {self._address} does not say whether an order is being"
                f" paid ({error.code().name}); try again soon",
                reason="ORDERS_UNAVAILABLE",
            ) from None

    async def close(self) -> None:
        """Closes the connection."""
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        """Returns itself."""
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Closes the connection."""
        await self.close()
