"""What still has to be told to the ledger, and refunded at the provider.

Owns the rows of settlements and refunds: written in the transaction of the change that causes
them, and left only by an answer. Must not call anybody.
Next: `lastunit.payment.teller` makes the calls.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from lastunit.payment import schema
from lastunit.payment.states import Effect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.payment.attempts import Fact

__all__ = [
    "RefundState",
    "add_refund",
    "add_settlement",
    "due_refunds",
    "due_settlements",
    "next_try_ms",
    "retry_refund",
    "update_refund",
    "update_settlement",
]

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


def _due_refunds() -> sa.Select[Any]:
    table = schema.refunds
    return (
        sa.select(table)
        .where(table.c.next_try_ms <= sa.bindparam("now_ms"))
        .order_by(table.c.create_ms, table.c.attempt_id)
        .limit(sa.bindparam("limit"))
    )


# Statements of every step are built once: building one costs more than running it.
_DUE_SETTLEMENTS: Final = _due_settlements()
_DUE_REFUNDS: Final = _due_refunds()
_NEXT_TRIES: Final = tuple(
    sa.select(sa.func.min(table.c.next_try_ms)) for table in (schema.settlements, schema.refunds)
)


class RefundState(StrEnum):
    """Where a refund stands."""

    INIT = "INIT"
    """Owed; the provider has not accepted it yet."""
    PENDING = "PENDING"
    """Accepted by the provider, not done."""
    DONE = "DONE"
    FAILED = "FAILED"
    """Refused; tried again for a while, then a human decides."""


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
    connection.execute(
        sqlite.insert(schema.settlements).on_conflict_do_nothing(),
        {
            # Derived, so that a repeat after a crash is the same command to the ledger.
            "request_id": f"{attempt.attempt_id}:{result.lower()}",
            "attempt_id": attempt.attempt_id,
            "reservation_id": attempt.reservation_id,
            "payment_result": result,
            "occurred_ms": fact.occurred_ms or now_ms,
            "evidence": evidence.encode()[:EVIDENCE_BYTES_MAX].decode(errors="ignore"),
            "create_ms": now_ms,
            "next_try_ms": now_ms,
        },
    )


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


def add_refund(connection: sa.Connection, attempt: sa.Row[Any], *, now_ms: int) -> bool:
    """Writes down that an attempt's money is owed back; returns False if it was before.

    Args:
        connection: Inside a transaction.
        attempt: The attempt's row; what was paid is refunded, in full.
        now_ms: The time; the first try is due at once.
    """
    added = connection.execute(
        sqlite.insert(schema.refunds).on_conflict_do_nothing(),
        {
            "attempt_id": attempt.attempt_id,
            "reservation_id": attempt.reservation_id,
            "amount_minor": attempt.paid_amount_minor or attempt.amount_minor,
            "currency": attempt.paid_currency or attempt.currency,
            "state": RefundState.INIT.value,
            "create_ms": now_ms,
            "next_try_ms": now_ms,
        },
    )
    return added.rowcount > 0


def retry_refund(connection: sa.Connection, attempt_id: str, *, now_ms: int) -> None:
    """Tries a refund once more that was given up; one under way or done is left alone."""
    table = schema.refunds
    connection.execute(
        sa.update(table)
        .where(
            table.c.attempt_id == attempt_id,
            table.c.state == RefundState.FAILED.value,
            table.c.next_try_ms.is_(None),
        )
        .values(next_try_ms=now_ms)
    )


def due_refunds(connection: sa.Connection, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Returns refunds to carry on with now, oldest first."""
    return connection.execute(_DUE_REFUNDS, {"now_ms": now_ms, "limit": limit}).all()


def update_refund(connection: sa.Connection, attempt_id: str, values: Mapping[str, object]) -> None:
    """Writes down how a try went."""
    connection.execute(
        sa.update(schema.refunds).where(schema.refunds.c.attempt_id == attempt_id).values(**values)
    )


def next_try_ms(connection: sa.Connection) -> int | None:
    """Returns when the next settlement or refund is due, or None."""
    soonest = [connection.execute(query).scalar_one() for query in _NEXT_TRIES]
    return min((each for each in soonest if each is not None), default=None)
