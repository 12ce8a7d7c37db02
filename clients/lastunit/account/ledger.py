"""Tells a stock ledger which persons count together.

Owns the calls to the ledger. Must not decide or remember anything.
Next: `lastunit.account.feeding` says when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.errors import StatusError
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.client.aio import AdminClient
    from lastunit.client.outcomes import Reply

__all__ = ["CALLER", "StockLedger"]

CALLER: Final = "account"
"""Under which name the ledger knows the account service, and its journal names it as actor."""


class StockLedger:
    """Is the ledger as the account service needs it; see `lastunit.account.ports.Ledger`.

    Args:
        admin: Calls its StockAdminService.
    """

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin

    async def unite(self, source_person_id: str, target_person_id: str, *, request_id: str) -> None:
        """Lets two persons count as one.

        Raises:
            LastunitError: It did not answer, or refused.
        """
        request = admin_pb2.MergePersonsRequest(
            request_id=request_id,
            actor=CALLER,
            reason="they are one human",
            source_person_id=source_person_id,
            target_person_id=target_person_id,
        )
        _must(await self._admin.merge_persons(request), request_id)

    async def split(self, person_ids: Sequence[str], *, request_id: str) -> None:
        """Lets 1 to 64 persons count together and apart from all others.

        Raises:
            LastunitError: It did not answer, or refused.
        """
        request = admin_pb2.SplitPersonsRequest(
            request_id=request_id,
            actor=CALLER,
            reason="they are not one human",
            person_ids=person_ids,
        )
        _must(await self._admin.split_persons(request), request_id)


def _must(reply: Reply[Any], request_id: str) -> None:
    if not reply.is_ok:
        raise StatusError(
            f"the ledger refused {request_id} as {reply.outcome.name}: it and the account service"
            " do not agree on persons; was one of them put back to an earlier state?",
            code="FAILED_PRECONDITION",
            reason="LEDGER_REFUSED",
        )
