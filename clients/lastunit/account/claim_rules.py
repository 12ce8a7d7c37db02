"""When a claim may be opened, how long its owner may object, and what a clock makes of it.

Owns the times and the counts. Must not answer calls. Next: `lastunit.account.claiming`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, moves, trees, views
from lastunit.account.states import ClaimEvent, ClaimState, Entity

if TYPE_CHECKING:
    from lastunit.account.moves import Cause

__all__ = [
    "CLAIMS_MAX",
    "CLAIM_LOCK_MS",
    "OPEN_STATES",
    "age",
    "approve",
    "claim_open_ms",
    "open_claim_on",
    "wait_ms",
]

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

WAIT_MS: Final = 24 * _HOUR_MS
"""How long an owner may object."""
LONG_WAIT_MS: Final = 72 * _HOUR_MS
"""How long an owner may object who has logged in lately, so that their logins are not dead."""
LATELY_MS: Final = 30 * _DAY_MS
CONFIRM_MS: Final = 24 * _HOUR_MS
"""How long a claimant may confirm."""
CLAIMS_MAX: Final = 3
"""Claims by one person in `CLAIMS_SPAN_MS`: more are somebody who tries."""
CLAIMS_SPAN_MS: Final = 30 * _DAY_MS
CLAIM_LOCK_MS: Final = 30 * _DAY_MS
"""How long an account is locked that claimed a person whose owner objected."""

OPEN_STATES: Final = (ClaimState.OPENED, ClaimState.WAITING, ClaimState.APPROVED)


def wait_ms(connection: sa.Connection, owner_id: str, now_ms: int) -> int:
    """Returns how long the owner of a live person may object."""
    table = _tables.accounts
    newest = connection.scalar(
        sa.select(sa.func.max(table.c.login_ms)).where(table.c.person_id == owner_id)
    )
    is_lately = newest is not None and now_ms - newest < LATELY_MS
    return LONG_WAIT_MS if is_lately else WAIT_MS


def open_claim_on(connection: sa.Connection, owner_id: str) -> sa.Row[Any] | None:
    """Returns the claim on a live person, or a part of it, that is not decided yet."""
    table = _tables.claims
    return connection.execute(
        sa.select(table)
        .where(
            table.c.owner_person_id.in_(trees.members_of(connection, owner_id)),
            table.c.state.in_(OPEN_STATES),
        )
        .order_by(table.c.create_ms)
        .limit(1)
    ).one_or_none()


def quota_ms(connection: sa.Connection, person_id: str, now_ms: int) -> int:
    """Returns from when a person may open another claim; `now_ms` if at once."""
    table = _tables.claims
    times = connection.scalars(
        sa.select(table.c.create_ms)
        .where(
            table.c.person_id.in_(trees.members_of(connection, person_id)),
            table.c.create_ms > now_ms - CLAIMS_SPAN_MS,
        )
        .order_by(table.c.create_ms.desc())
        .limit(CLAIMS_MAX)
    ).all()
    return int(times[-1]) + CLAIMS_SPAN_MS if len(times) == CLAIMS_MAX else now_ms


def claim_open_ms(connection: sa.Connection, person_id: str, owner_id: str, now_ms: int) -> int:
    """Returns from when a person may claim another; `now_ms` if at once.

    A claim that is open by then is decided by then at the latest.
    """
    found = open_claim_on(connection, owner_id)
    until_ms = now_ms if found is None else decided_ms(found)
    return max(quota_ms(connection, person_id, now_ms), until_ms)


def decided_ms(claim: sa.Row[Any]) -> int:
    """Returns when an open claim is decided at the latest."""
    if claim.confirm_until_ms is not None:
        return int(claim.confirm_until_ms)
    return int(claim.wait_until_ms) + CONFIRM_MS


def approve(
    connection: sa.Connection,
    claim: sa.Row[Any],
    event: ClaimEvent,
    cause: Cause,
    *,
    from_ms: int,
) -> None:
    """Approves a claim, so that it may be confirmed for 24 h from a time on."""
    moves.move(
        connection,
        Entity.CLAIM,
        claim.claim_id,
        event,
        cause,
        confirm_until_ms=from_ms + CONFIRM_MS,
        due_ms=from_ms + CONFIRM_MS,
    )


def age(connection: sa.Connection, claim: sa.Row[Any], now_ms: int) -> sa.Row[Any]:
    """Moves a claim by the clock, if that is due; returns it as it stands then.

    Called before each look at a claim, and what it does depends on the claim's own times alone: no
    answer depends on when a loop came by.
    """
    cause = moves.Cause(moves.TIMER, now_ms)
    if claim.state == ClaimState.WAITING and now_ms >= claim.wait_until_ms:
        approve(connection, claim, ClaimEvent.WAIT_OVER, cause, from_ms=claim.wait_until_ms)
        claim = _fresh(connection, claim)
    if claim.state == ClaimState.APPROVED and now_ms >= claim.confirm_until_ms:
        moves.move(
            connection,
            Entity.CLAIM,
            claim.claim_id,
            ClaimEvent.CONFIRM_OVER,
            cause,
            due_ms=None,
        )
        claim = _fresh(connection, claim)
    return claim


def _fresh(connection: sa.Connection, claim: sa.Row[Any]) -> sa.Row[Any]:
    found = views.claim_row(connection, claim.claim_id)
    if found is None:
        raise AssertionError(f"claim {claim.claim_id} is gone")
    return found
