"""The only way to read personal data: whoever does leaves a row in the access log.

Owns the decryption of stored identifiers and the rows of `access_log`. Must not hand out anything
without one. Next: `lastunit.account.sealing`; docs/operating/accounts-privacy.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.identifiers import Identifier, IdentifierKind
from lastunit.account.sealing import unseal

if TYPE_CHECKING:
    from lastunit.account.keys import KeyRing

__all__ = ["Reader", "note", "reveal"]


@dataclass(frozen=True, slots=True)
class Reader:
    """Says who reads, and why.

    Attributes:
        actor: A person's id at the company, or the part of the service that reads.
        reason: Why, without personal data.
        now_ms: When, in milliseconds since the epoch.
        request_id: The call that it is for; empty without one.
    """

    actor: str
    reason: str
    now_ms: int
    request_id: str = ""


def note(connection: sa.Connection, reader: Reader, *, subject: str, field: str) -> None:
    """Writes down that somebody read something.

    Args:
        connection: Inside a transaction, the one that reads.
        reader: Who, and why.
        subject: The account or identifier whose data it is.
        field: What was read, such as `identifier`.
    """
    connection.execute(
        sa.insert(_tables.access_log),
        {
            "time_ms": reader.now_ms,
            "actor": reader.actor,
            "reason": reader.reason,
            "subject": subject,
            "field": field,
            "request_id": reader.request_id,
        },
    )


def reveal(
    connection: sa.Connection,
    ring: KeyRing,
    identifier_id: str,
    *,
    reader: Reader,
) -> Identifier | None:
    """Returns an identifier in full, and notes who read it.

    Args:
        connection: Inside a transaction of the writer.
        ring: The keys.
        identifier_id: Which one.
        reader: Who reads, and why.

    Returns:
        None if it is not there, or is from before identifiers were kept.

    Raises:
        SealError: It is damaged.
    """
    table = _tables.identifiers
    row = connection.execute(
        sa.select(table.c.kind, table.c.ciphertext).where(table.c.identifier_id == identifier_id)
    ).one_or_none()
    if row is None or row.ciphertext is None:
        return None
    note(connection, reader, subject=identifier_id, field="identifier")
    text = unseal(ring, row.ciphertext, bound_to=identifier_id)
    return Identifier(IdentifierKind(row.kind), text)
