"""Codes that prove an identifier: six digits, good for five minutes, five tries.

Owns the rows of `codes` and how often a code may be sent and tried. Must not send one, and must not
keep one: only a keyed digest of it is stored. Next: `lastunit.account.signing_in`.
"""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.vault import digests_of

if TYPE_CHECKING:
    from lastunit.account.identifiers import Identifier
    from lastunit.account.keys import KeyRing

__all__ = ["Denial", "Issued", "Verdict", "check", "forget", "issue", "sweep"]

CODE_SECONDS: Final = 300
TRIES_MAX: Final = 5
# Who asks again sooner has not looked; more than five an hour are somebody else's nuisance.
PAUSE_SECONDS: Final = 60
CODES_PER_HOUR_MAX: Final = 5
# Thirty guesses of a million a day are one in 33,000; beyond that nobody may guess further.
WRONG_TRIES_PER_DAY_MAX: Final = 30

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
KEPT_MS: Final = _DAY_MS
"""How long a code counts, for how many were sent and tried."""
_DIGITS: Final = 6


class Verdict(enum.Enum):
    """What a code is worth."""

    GOOD = "good"
    BAD = "bad"
    """It is wrong, or none was sent, or it was used before."""
    EXPIRED = "expired"
    """It is too old or was tried too often; ask for a new one."""


@dataclass(frozen=True, slots=True)
class Denial:
    """Says why no code may be sent now.

    Attributes:
        is_blocked: Too many wrong codes came for the identifier; otherwise too many were sent.
        come_back_ms: When one may be sent, in milliseconds since the epoch.
    """

    is_blocked: bool
    come_back_ms: int


@dataclass(frozen=True, slots=True)
class Issued:
    """Is a code that is to be sent.

    Attributes:
        code_id: Names its row.
        code: Six digits.
        expire_ms: Until when it is good, in milliseconds since the epoch.
    """

    code_id: int
    code: str
    expire_ms: int

    def __repr__(self) -> str:
        """Hides the code, because a representation ends in logs."""
        return f"Issued({self.code_id})"


def issue(
    connection: sa.Connection, ring: KeyRing, identifier: Identifier, purpose: int, now_ms: int
) -> Issued | Denial:
    """Makes a code, unless too many were sent or tried; older ones for the purpose are void.

    Args:
        connection: Inside a transaction of the writer.
        ring: The keys.
        identifier: Where it will be sent.
        purpose: What it is for; the contract's CodePurpose.
        now_ms: Milliseconds since the epoch.
    """
    table = _tables.codes
    digests = [each.digest for each in digests_of(ring, identifier)]
    rows = connection.execute(
        sa.select(table.c.create_ms, table.c.try_count)
        .where(table.c.digest.in_(digests), table.c.create_ms > now_ms - _DAY_MS)
        .order_by(table.c.create_ms)
    ).all()
    if sum(row.try_count for row in rows) >= WRONG_TRIES_PER_DAY_MAX:
        tried = next(row for row in rows if row.try_count)
        return Denial(is_blocked=True, come_back_ms=tried.create_ms + _DAY_MS)
    hour = [row.create_ms for row in rows if row.create_ms > now_ms - _HOUR_MS]
    if len(hour) >= CODES_PER_HOUR_MAX:
        return Denial(is_blocked=False, come_back_ms=hour[-CODES_PER_HOUR_MAX] + _HOUR_MS)
    if hour and now_ms < hour[-1] + PAUSE_SECONDS * 1_000:
        return Denial(is_blocked=False, come_back_ms=hour[-1] + PAUSE_SECONDS * 1_000)
    code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"
    expire_ms = now_ms + CODE_SECONDS * 1_000
    code_id = connection.execute(
        sa.insert(table).returning(table.c.code_id),
        {
            "digest": ring.digest(identifier.kind.value, identifier.normalized).digest,
            "purpose": purpose,
            "code_digest": ring.digest("code", _bound(identifier, purpose, code)).digest,
            "create_ms": now_ms,
            "expire_ms": expire_ms,
            "try_count": 0,
        },
    ).scalar_one()
    return Issued(code_id, code, expire_ms)


def check(
    connection: sa.Connection,
    ring: KeyRing,
    identifier: Identifier,
    purpose: int,
    code: str,
    *,
    now_ms: int,
    is_used_up: bool = True,
) -> Verdict:
    """Says what a code is worth; a wrong one counts even if the call does nothing else.

    Args:
        connection: Inside a transaction of the writer, which must commit.
        ring: The keys.
        identifier: What it should prove.
        purpose: What it should be for.
        code: What was given.
        now_ms: Milliseconds since the epoch.
        is_used_up: False leaves a good code good: Register and the Login after it need one code.
    """
    table = _tables.codes
    digests = [each.digest for each in digests_of(ring, identifier)]
    row = connection.execute(
        sa.select(table)
        .where(table.c.digest.in_(digests), table.c.purpose == purpose)
        .order_by(table.c.code_id.desc())
        .limit(1)
    ).one_or_none()
    if row is None or row.use_ms is not None:
        return Verdict.BAD
    if now_ms >= row.expire_ms or row.try_count >= TRIES_MAX:
        return Verdict.EXPIRED
    is_good = ring.is_digest(row.code_digest, "code", _bound(identifier, purpose, code))
    change: dict[str, object] = {"use_ms": now_ms} if is_good else {"try_count": row.try_count + 1}
    if not is_good or is_used_up:
        connection.execute(sa.update(table).where(table.c.code_id == row.code_id).values(**change))
    return Verdict.GOOD if is_good else Verdict.BAD


def forget(connection: sa.Connection, code_id: int) -> None:
    """Takes a code back that could not be sent, so that it may be asked for at once."""
    table = _tables.codes
    connection.execute(sa.delete(table).where(table.c.code_id == code_id))


def sweep(connection: sa.Connection, now_ms: int, *, limit: int) -> int:
    """Deletes codes that count for nothing any more; returns how many."""
    table = _tables.codes
    old = (
        sa.select(table.c.code_id)
        .where(table.c.create_ms <= now_ms - KEPT_MS)
        .order_by(table.c.create_ms)
        .limit(limit)
    )
    done = connection.execute(sa.delete(table).where(table.c.code_id.in_(old)))
    return done.rowcount


def _bound(identifier: Identifier, purpose: int, code: str) -> str:
    """Binds a code to what it is for: a stolen digest is good for nothing else."""
    return f"{purpose}:{code}:{identifier.kind.value}:{identifier.normalized}"
