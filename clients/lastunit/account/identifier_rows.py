"""What is kept of an identifier: its digest, its ciphertext, its mask and when it proved anything.

Owns the rows of `identifiers`, but for their states. Must not keep one in the open.
Next: `lastunit.account.vault`, `lastunit.account.moves`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from lastunit.account import _tables, moves
from lastunit.account.sealing import seal
from lastunit.account.states import Entity, IdentifierEvent, IdentifierState
from lastunit.account.vault import digests_of

if TYPE_CHECKING:
    from lastunit.account.identifiers import Identifier
    from lastunit.account.keys import KeyRing
    from lastunit.account.moves import Cause

__all__ = ["Row", "find", "insert", "new_row", "note_proof", "release"]


@dataclass(frozen=True, slots=True)
class Row:
    """Is an identifier that leads to an account.

    Attributes:
        identifier_id: Names it.
        account_id: Where it leads.
        state: VERIFIED, UNVERIFIED or DISPUTED.
        masked: What may be shown.
        use_ms: When it last proved anything; its making if it never did.
        release_ms: When a disputed one is taken from its account; None if it is not disputed.
        is_sealed: False for one from before identifiers were kept.
    """

    identifier_id: str
    account_id: str
    state: IdentifierState
    masked: str
    use_ms: int
    release_ms: int | None
    is_sealed: bool


def find(connection: sa.Connection, ring: KeyRing, identifier: Identifier) -> Row | None:
    """Returns where an identifier leads; None if nowhere."""
    table = _tables.identifiers
    digests = [each.digest for each in digests_of(ring, identifier)]
    row = connection.execute(
        sa.select(table).where(
            table.c.digest.in_(digests), table.c.state != IdentifierState.RELEASED
        )
    ).one_or_none()
    if row is None:
        return None
    return Row(
        identifier_id=row.identifier_id,
        account_id=row.account_id,
        state=IdentifierState(row.state),
        masked=row.masked,
        use_ms=row.create_ms if row.use_ms is None else row.use_ms,
        release_ms=row.release_ms,
        is_sealed=row.ciphertext is not None,
    )


def new_row(
    ring: KeyRing,
    identifier: Identifier,
    digest: bytes,
    *,
    identifier_id: str,
    account_id: str,
    now_ms: int,
    is_proved: bool,
) -> dict[str, object]:
    """Returns the columns of a new row, all but its state; the digest is under the active key."""
    return {
        "identifier_id": identifier_id,
        "account_id": account_id,
        "kind": identifier.kind.value,
        "key_version": ring.active.version,
        "digest": digest,
        "ciphertext": seal(ring, identifier.normalized, bound_to=identifier_id),
        "masked": identifier.masked(),
        "create_ms": now_ms,
        "change_ms": now_ms,
        "verify_ms": now_ms if is_proved else None,
        "use_ms": now_ms if is_proved else None,
    }


def insert(
    connection: sa.Connection,
    ring: KeyRing,
    identifier: Identifier,
    *,
    account_id: str,
    now_ms: int,
) -> str:
    """Adds a proved identifier to an account and returns its id."""
    identifier_id = f"i-{secrets.token_hex(10)}"
    row = new_row(
        ring,
        identifier,
        ring.digest(identifier.kind.value, identifier.normalized).digest,
        identifier_id=identifier_id,
        account_id=account_id,
        now_ms=now_ms,
        is_proved=True,
    )
    moves.begin(connection, Entity.IDENTIFIER, IdentifierEvent.PROVE, [row])
    return identifier_id


def note_proof(
    connection: sa.Connection, ring: KeyRing, row: Row, identifier: Identifier, cause: Cause
) -> None:
    """Writes down that an identifier proved something; a disputed one is its account's again."""
    changes: dict[str, object] = {"use_ms": cause.now_ms}
    if not row.is_sealed:
        changes["ciphertext"] = seal(ring, identifier.normalized, bound_to=row.identifier_id)
    if row.state is IdentifierState.VERIFIED:
        # No move: each login would leave a line in the history.
        table = _tables.identifiers
        connection.execute(
            sa.update(table).where(table.c.identifier_id == row.identifier_id).values(**changes)
        )
        return
    changes.update(verify_ms=cause.now_ms, change_ms=cause.now_ms, release_ms=None)
    moves.move(
        connection,
        Entity.IDENTIFIER,
        row.identifier_id,
        IdentifierEvent.PROVE,
        cause,
        **changes,
    )


def release(connection: sa.Connection, identifier_id: str, cause: Cause) -> None:
    """Lets an identifier lead nowhere any more."""
    moves.move(
        connection,
        Entity.IDENTIFIER,
        identifier_id,
        IdentifierEvent.RELEASE,
        cause,
        change_ms=cause.now_ms,
        release_ms=None,
    )
