"""What still has to be told to the ledger.

Owns the rows of settlements: written in the transaction of the change that causes them, and left
only by an answer. Must not call anybody. Next: `lastunit.payment.teller` makes the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import schema
from lastunit.payment.states import Effect
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.payment.attempts import Fact

__all__ = [
    "REFUNDED",
    "add_refunded",
    "add_settlement",
    "due_settlements",
    "next_try_ms",
    "update_settlement",
]

REFUNDED: Final = "REFUNDED"
"""In place of a result: all of the attempt's money is back, and the ledger waits to hear it."""

# The ledger keeps at most so many bytes of evidence.
EVIDENCE_BYTES_MAX: Final = 256

_RESULTS: Final[Mapping[Effect, str]] = {
    Effect.SETTLE_SUCCEEDED: "SUCCEEDED",
    Effect.SETTLE_FAILED: "FAILED",
    Effect.SETTLE_CANCELLED: "CANCELLED",
}


def _due_settlements() -> sa.Select[Any]:
    table = schema.settlements
    # A later result of an attempt waits for the earlier one, so that the ledger hears them in
    # the order in which they were learnt.
    first = (
        sa.select(sa.func.min(table.c.settlement_id))
        .where(table.c.next_try_ms.is_not(None))
        .group_by(table.c.attempt_id)
    )
    return (
        sa.select(table)
        .where(table.c.next_try_ms <= sa.bindparam("now_ms"), table.c.settlement_id.in_(first))
        .order_by(table.c.settlement_id)
        .limit(sa.bindparam("limit"))
    )


# Statements of every step are built once: building one costs more than running it.
_DUE_SETTLEMENTS: Final = _due_settlements()
_NEXT_TRY: Final = sa.select(sa.func.min(schema.settlements.c.next_try_ms))


def add_settlement(
    connection: sa.Connection,
    attempt: sa.Row[Any],
    effect: Effect,
    fact: Fact,
    *,
    now_ms: int,
) -> None:
    """Writes down that the ledger has to be told, once for each result of an attempt.

    Args:
        connection: Inside the transaction that changes the attempt.
        attempt: The attempt's row.
        effect: What the decision obliges to; others than settlements write nothing.
        fact: Where it was learnt; becomes the evidence.
        now_ms: The time; the first try is due at once.
    """
    result = _RESULTS.get(effect)
    if result is None:
        return
    evidence = f"{attempt.provider} {fact.source} {fact.provider_no} v{fact.state_version}"
    _add(connection, attempt, result, evidence, occurred_ms=fact.occurred_ms, now_ms=now_ms)


def add_refunded(
    connection: sa.Connection, attempt: sa.Row[Any], *, refund_no: str, now_ms: int
) -> None:
    """Writes down that the ledger has to be told that owed money is back, once an attempt.

    Args:
        connection: Inside the transaction in which the last of it went back.
        attempt: The attempt's row.
        refund_no: The provider's number of the last refund; becomes the evidence.
        now_ms: The time; the first try is due at once.
    """
    evidence = f"{attempt.provider} refund {refund_no}"
    _add(connection, attempt, REFUNDED, evidence, occurred_ms=now_ms, now_ms=now_ms)


def due_settlements(connection: sa.Connection, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Returns settlements to tell now: the oldest of each attempt, oldest first.

    Args:
        connection: A reader.
        now_ms: The time.
        limit: At most so many, 1 or more.
    """
    return connection.execute(_DUE_SETTLEMENTS, {"now_ms": now_ms, "limit": limit}).all()


def update_settlement(
    connection: sa.Connection, settlement_id: int, values: Mapping[str, object]
) -> None:
    """Writes down how a try went."""
    connection.execute(
        sa.update(schema.settlements)
        .where(schema.settlements.c.settlement_id == settlement_id)
        .values(**values)
    )


def next_try_ms(connection: sa.Connection) -> int | None:
    """Returns when the next settlement is due, or None."""
    soonest: int | None = connection.execute(_NEXT_TRY).scalar_one()
    return soonest


def _add(
    connection: sa.Connection,
    attempt: sa.Row[Any],
    result: str,
    evidence: str,
    *,
    occurred_ms: int,
    now_ms: int,
) -> None:
    sql.insert_new(
        connection,
        schema.settlements,
        {
            # Derived, so that a repeat after a crash is the same command to the ledger.
            "request_id": f"{attempt.attempt_id}:{result.lower()}",
            "attempt_id": attempt.attempt_id,
            "reservation_id": attempt.reservation_id,
            "payment_result": result,
            "occurred_ms": occurred_ms or now_ms,
            "evidence": evidence.encode()[:EVIDENCE_BYTES_MAX].decode(errors="ignore"),
            "create_ms": now_ms,
            "next_try_ms": now_ms,
        },
    )
