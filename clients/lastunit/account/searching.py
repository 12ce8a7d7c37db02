"""What support staff look up: FindAccount and ListAccesses.

Owns these calls. Must not show an identifier in full, and lets nobody search without a trace.
Next: `lastunit.account.access`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, access, identifier_rows
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.resolving import account_message
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from lastunit.account.ports import Means

__all__ = ["Searching"]

ROW_ID_MAX: Final = 2**63 - 1


class Searching:
    """Looks accounts and accesses up.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def FindAccount(  # noqa: N802 - named by the contract
        self, request: pb.FindAccountRequest, _context: object
    ) -> pb.FindAccountResponse:
        """Says which account an identifier leads to, and writes down who asked."""
        try:
            identifier = Identifier.of(request.identifier)
        except IdentifierError:
            return pb.FindAccountResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
        reader = access.Reader(request.actor, request.reason, self._means.clock.now_ms())

        def unit(connection: sa.Connection) -> pb.FindAccountResponse:
            ring = self._means.vault.ring(connection)
            row = identifier_rows.find(connection, ring, identifier)
            if row is None:
                return pb.FindAccountResponse(refusal=pb.REFUSAL_UNKNOWN_IDENTIFIER)
            for subject in (row.account_id, row.identifier_id):
                access.note(connection, reader, subject=subject, field="search")
            return pb.FindAccountResponse(account=account_message(connection, row.account_id))

        return await self._means.database.run(unit)

    async def ListAccesses(  # noqa: N802 - named by the contract
        self, request: pb.ListAccessesRequest, _context: object
    ) -> pb.ListAccessesResponse:
        """Lists who read the personal data of an account or identifier, oldest first."""
        table = _tables.access_log
        # A token that is none of ours starts anew; 64 bits are what a database compares.
        token = request.page_token
        after = min(int(token), ROW_ID_MAX) if token.isdecimal() else 0
        with self._means.database.read() as connection:
            rows = connection.execute(
                sa.select(table)
                .where(table.c.subject == request.subject, table.c.access_id > after)
                .order_by(table.c.access_id)
                .limit(request.page_size + 1)
            ).all()
        shown = rows[: request.page_size]
        answer = pb.ListAccessesResponse(
            next_page_token=str(shown[-1].access_id) if len(rows) > len(shown) else ""
        )
        for row in shown:
            record = person_pb2.AccessRecord(
                actor=row.actor, reason=row.reason, subject=row.subject, field=row.field
            )
            record.time.FromMilliseconds(row.time_ms)
            answer.records.append(record)
        return answer
