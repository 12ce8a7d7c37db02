"""Sessions: who logged in, and until when that holds.

Owns the rows of `sessions`. Must not keep a token: only its digest is stored, so who reads the
database cannot go on with anybody's session. Next: `lastunit.account.signing_in`.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SESSION_SECONDS", "Session", "begin", "end", "end_all", "find", "sweep"]

# A sale and the payment after it; who comes back next day logs in again.
SESSION_SECONDS: Final = 86_400

# 256 random bits: no guess finds one, so its digest needs no key.
_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Session:
    """Is a session that lasts.

    Attributes:
        account_id: Whose it is.
        create_ms: When it began, in milliseconds since the epoch.
        expire_ms: When it ends by itself.
    """

    account_id: str
    create_ms: int
    expire_ms: int


def begin(connection: sa.Connection, account_id: str, now_ms: int) -> tuple[str, Session]:
    """Begins a session; returns its token, which is told once, and what it is."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    session = Session(account_id, now_ms, now_ms + SESSION_SECONDS * 1_000)
    connection.execute(
        sa.insert(_tables.sessions),
        {
            "token_digest": _digest(token),
            "account_id": account_id,
            "create_ms": now_ms,
            "expire_ms": session.expire_ms,
            "end_reason": "",
        },
    )
    return token, session


def find(connection: sa.Connection, token: str, now_ms: int) -> Session | None:
    """Returns the session of a token; None if it has ended or there was none."""
    table = _tables.sessions
    row = connection.execute(
        sa.select(table).where(table.c.token_digest == _digest(token))
    ).one_or_none()
    if row is None or row.end_ms is not None or now_ms >= row.expire_ms:
        return None
    return Session(row.account_id, row.create_ms, row.expire_ms)


def end(connection: sa.Connection, token: str, now_ms: int) -> None:
    """Ends one session; one that has ended stays as it is."""
    table = _tables.sessions
    connection.execute(
        sa.update(table)
        .where(table.c.token_digest == _digest(token), table.c.end_ms.is_(None))
        .values(end_ms=now_ms, end_reason="LOGOUT")
    )


def end_all(connection: sa.Connection, account_ids: Sequence[str], reason: str, now_ms: int) -> int:
    """Ends every session of accounts.

    Args:
        connection: Inside a transaction, the one that changes the accounts.
        account_ids: Whose.
        reason: Why, such as `LOCKED`.
        now_ms: Milliseconds since the epoch.

    Returns:
        How many were ended.
    """
    table = _tables.sessions
    done = connection.execute(
        sa.update(table)
        .where(table.c.account_id.in_(account_ids), table.c.end_ms.is_(None))
        .values(end_ms=now_ms, end_reason=reason)
    )
    return done.rowcount


def sweep(connection: sa.Connection, now_ms: int, *, limit: int) -> int:
    """Deletes sessions that would have ended by themselves; returns how many."""
    table = _tables.sessions
    old = (
        sa.select(table.c.token_digest)
        .where(table.c.expire_ms <= now_ms)
        .order_by(table.c.expire_ms)
        .limit(limit)
    )
    done = connection.execute(sa.delete(table).where(table.c.token_digest.in_(old)))
    return done.rowcount


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
