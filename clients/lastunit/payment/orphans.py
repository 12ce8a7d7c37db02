"""Keeps news that fits nothing we have: as it was told, and as an incident.

Owns the rows of orphans. Must not decide what is an orphan: `inbox` and `follower` do.
Next: `lastunit.payment.incidents`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.payment import incidents, schema
from lastunit.service import sql

if TYPE_CHECKING:
    import sqlalchemy as sa

    from lastunit.payment.incidents import Sighting

__all__ = ["keep"]


def keep(connection: sa.Connection, sighting: Sighting, *, event_id: str, now_ms: int) -> None:
    """Keeps one piece of news, once each event.

    Args:
        connection: Inside a transaction.
        sighting: What was told.
        event_id: The event's id at whoever told it.
        now_ms: The time.
    """
    is_new = sql.insert_new(
        connection,
        schema.orphans,
        {
            "provider": sighting.provider,
            "event_id": event_id,
            "attempt_id": sighting.attempt_id,
            "kind": sighting.what,
            "amount_minor": sighting.found_minor,
            "currency": sighting.found_currency,
            "time_ms": now_ms,
        },
    )
    if is_new:
        incidents.note(connection, sighting, now_ms=now_ms)
