"""The account service and the payment service over gRPC, and this service for its command line.

Owns the calls the order service makes. Must not decide or cache.
Next: `lastunit.order.persons`, `lastunit.order.ports`.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, cast

from lastunit.account.v1 import account_service_pb2
from lastunit.client.peer import PeerClient
from lastunit.client.security import ClientSecurity
from lastunit.order.persons import AccountState, ResolvedPerson
from lastunit.order.v1 import order_service_pb2
from lastunit.payment.v1 import payment_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

__all__ = ["GrpcAccounts", "GrpcPayments", "explain_order"]

_EXPLAIN: Final = "/lastunit.order.v1.OrderService/Explain"
_RESOLVE: Final = "/lastunit.account.v1.AccountService/ResolvePerson"
_WATCH: Final = "/lastunit.account.v1.AccountService/WatchPersons"
_START: Final = "/lastunit.payment.v1.PaymentService/StartAttempt"
_REFUND: Final = "/lastunit.payment.v1.PaymentService/RefundAttempt"
_TRANSITIONS: Final = "/lastunit.payment.v1.PaymentService/ListTransitions"

_STATES: Final[Mapping[int, AccountState]] = {
    account_service_pb2.ACCOUNT_STATE_ACTIVE: AccountState.ACTIVE,
    account_service_pb2.ACCOUNT_STATE_LOCKED: AccountState.LOCKED,
    account_service_pb2.ACCOUNT_STATE_CLOSED: AccountState.CLOSED,
}


class GrpcAccounts:
    """Asks the account service.

    Args:
        peer: Its address.
    """

    def __init__(self, peer: PeerClient) -> None:
        self._peer = peer

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the persons of 1 to 256 accounts; see `AccountPort`."""
        response = cast(
            "account_service_pb2.ResolvePersonResponse",
            await self._peer.call(
                _RESOLVE,
                account_service_pb2.ResolvePersonRequest(account_ids=account_ids),
                account_service_pb2.ResolvePersonResponse,
            ),
        )
        return {
            person.account_id: ResolvedPerson(
                person.person_id,
                person.home_person_id,
                _STATES.get(person.state, AccountState.UNKNOWN),
                person.version,
            )
            for person in response.persons
        }

    async def watch_persons(
        self, after_sequence: int
    ) -> AsyncGenerator[account_service_pb2.WatchPersonsResponse]:
        """Gives out what changes about persons; see `PersonsPort`."""
        cursor = after_sequence

        def request() -> account_service_pb2.WatchPersonsRequest:
            return account_service_pb2.WatchPersonsRequest(after_sequence=cursor)

        messages = self._peer.follow(_WATCH, request, account_service_pb2.WatchPersonsResponse)
        async with contextlib.aclosing(messages):
            async for message in messages:
                if message.events:
                    cursor = message.events[-1].sequence
                yield message


class GrpcPayments:
    """Asks the payment service.

    Args:
        peer: Its address.
    """

    def __init__(self, peer: PeerClient) -> None:
        self._peer = peer

    async def start_attempt(
        self, request: payment_service_pb2.StartAttemptRequest
    ) -> payment_service_pb2.StartAttemptResponse:
        """Starts an attempt; see `PaymentPort`."""
        return cast(
            "payment_service_pb2.StartAttemptResponse",
            await self._peer.call(_START, request, payment_service_pb2.StartAttemptResponse),
        )

    async def refund_attempt(
        self, request: payment_service_pb2.RefundAttemptRequest
    ) -> payment_service_pb2.RefundAttemptResponse:
        """Gives money of an attempt back; see `PaymentPort`."""
        return cast(
            "payment_service_pb2.RefundAttemptResponse",
            await self._peer.call(_REFUND, request, payment_service_pb2.RefundAttemptResponse),
        )

    async def list_transitions(
        self, request: payment_service_pb2.ListTransitionsRequest
    ) -> payment_service_pb2.ListTransitionsResponse:
        """Lists the moves of an order's attempts and refunds; see `PaymentPort`."""
        return cast(
            "payment_service_pb2.ListTransitionsResponse",
            await self._peer.call(
                _TRANSITIONS, request, payment_service_pb2.ListTransitionsResponse
            ),
        )


async def explain_order(
    address: str, order_id: str, deadline_seconds: float
) -> order_service_pb2.ExplainResponse:
    """Asks an order service to explain an order.

    Args:
        address: `host:port` of the order service.
        order_id: The order.
        deadline_seconds: For the call with all its tries.

    Raises:
        LastunitError: It did not answer.
    """
    peer = PeerClient(
        address, deadline_seconds=deadline_seconds, security=ClientSecurity.from_environment()
    )
    try:
        return cast(
            "order_service_pb2.ExplainResponse",
            await peer.call(
                _EXPLAIN,
                order_service_pb2.ExplainRequest(order_id=order_id),
                order_service_pb2.ExplainResponse,
            ),
        )
    finally:
        await peer.close()
