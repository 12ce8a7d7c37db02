"""What was answered before: a repeated request id gets the first answer, other content a conflict.

Owns the rows of `calls`. Must not remember refusals: what was not done may be asked again.
Next: `lastunit.account.linking` is a short example of its use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from lastunit.account import _tables

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Earlier", "find", "keep"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """Is what the first request with an id led to.

    Attributes:
        answer: Its serialized response.
        event_sequence: The last person event it made; 0 if it made none.
        conflict_field: In what the repeat differs; empty if it does not.
    """

    answer: bytes
    event_sequence: int
    conflict_field: str


def find(
    connection: sa.Connection, request_id: str, *, method: str, content: Mapping[str, str]
) -> Earlier | None:
    """Looks a request id up.

    Args:
        connection: A transaction.
        request_id: The caller's.
        method: Name of the method; another one's id differs in the field `method`.
        content: The compared fields; personal ones as keyed digests.

    Returns:
        What came of the first one; None if there was none.
    """
    table = _tables.calls
    row = connection.execute(sa.select(table).where(table.c.request_id == request_id)).one_or_none()
    if row is None:
        return None
    kept = {"method": row.method, **json.loads(row.content)}
    asked = {"method": method, **content}
    different = next(
        (name for name in (*asked, *kept) if kept.get(name) != asked.get(name)),
        "",
    )
    return Earlier(row.answer, row.event_sequence, different)


def keep(
    connection: sa.Connection,
    request_id: str,
    *,
    method: str,
    content: Mapping[str, str],
    answer: bytes,
    now_ms: int,
    event_sequence: int = 0,
) -> None:
    """Remembers what was answered, in the transaction that did it.

    Args:
        connection: Inside a transaction.
        request_id: The caller's, not seen before.
        method: Name of the method.
        content: As for `find`.
        answer: The serialized response; it must hold no secret that is not its receiver's for good.
        now_ms: Milliseconds since the epoch.
        event_sequence: The last person event of the call; a repeat waits for it too.
    """
    connection.execute(
        sa.insert(_tables.calls),
        {
            "request_id": request_id,
            "method": method,
            "content": json.dumps(dict(content), sort_keys=True),
            "answer": answer,
            "event_sequence": event_sequence,
            "time_ms": now_ms,
        },
    )
