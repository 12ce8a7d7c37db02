"""Shows what the payment service has, as messages of `lastunit.payment.v1`.

Owns the mapping of rows to messages, pages and sums. Must not change anything.
Next: `lastunit.payment.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.payment import schema
from lastunit.payment.outbox import RefundState
from lastunit.payment.states import AttemptState
from lastunit.payment.v1 import payment_service_pb2 as pb

__all__ = ["attempt", "list_attempts", "list_orphans", "load_refund", "provider", "totals"]

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from lastunit.payment.breaker import Breaker


def provider(name: str, breaker: Breaker) -> pb.ProviderStatus:
    """Returns a provider and its breaker as a message."""
    message = pb.ProviderStatus(
        provider=name,
        state=pb.BreakerState.Value(f"BREAKER_STATE_{breaker.state.value}"),
        error_count=breaker.error_count,
    )
    message.since_time.FromMilliseconds(breaker.since_ms)
    return message


def load_refund(connection: sa.Connection, attempt_id: str) -> sa.Row[Any] | None:
    """Returns the refund of an attempt, or None."""
    query = sa.select(schema.refunds).where(schema.refunds.c.attempt_id == attempt_id)
    return connection.execute(query).one_or_none()


def attempt(row: sa.Row[Any], refund: sa.Row[Any] | None) -> pb.Attempt:
    """Returns one attempt as a message.

    Args:
        row: The attempt.
        refund: Its refund, or None.
    """
    message = pb.Attempt(
        attempt_id=row.attempt_id,
        order_id=row.order_id,
        reservation_id=row.reservation_id,
        provider=row.provider,
        method=row.method,
        state=pb.AttemptState.Value(f"ATTEMPT_STATE_{row.state}"),
        pay_url=row.pay_url,
        provider_no=row.provider_no,
        amount_minor=row.amount_minor,
        currency=row.currency,
        paid_amount_minor=row.paid_amount_minor,
        paid_currency=row.paid_currency,
        ask_count=row.ask_count,
        failure_code=row.failure_code,
        provider_state_version=row.provider_version,
    )
    _set_time(message.start_time, row.start_ms)
    _set_time(message.settle_by_time, row.settle_by_ms)
    if row.next_ask_ms is not None:
        _set_time(message.next_ask_time, row.next_ask_ms)
    if refund is not None:
        message.refund_state = pb.RefundState.Value(f"REFUND_STATE_{refund.state}")
    return message


def list_attempts(
    connection: sa.Connection, request: pb.ListAttemptsRequest
) -> pb.ListAttemptsResponse:
    """Returns one page of attempts, oldest first."""
    table = schema.attempts
    key = sa.tuple_(table.c.start_ms, table.c.attempt_id)
    query = sa.select(table).order_by(table.c.start_ms, table.c.attempt_id)
    if request.order_id:
        query = query.where(table.c.order_id == request.order_id)
    if request.state:
        name = pb.AttemptState.Name(request.state).removeprefix("ATTEMPT_STATE_")
        query = query.where(table.c.state == name)
    if request.page_token:
        last = connection.execute(
            sa.select(table.c.start_ms).where(table.c.attempt_id == request.page_token)
        ).scalar_one_or_none()
        query = query.where(key > sa.tuple_(sa.literal(last or 0), request.page_token))
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    return pb.ListAttemptsResponse(
        attempts=[attempt(row, load_refund(connection, row.attempt_id)) for row in page],
        next_page_token=page[-1].attempt_id if len(rows) > len(page) else "",
    )


def list_orphans(
    connection: sa.Connection, request: pb.ListOrphansRequest
) -> pb.ListOrphansResponse:
    """Returns one page of orphans, oldest first."""
    table = schema.orphans
    after = int(request.page_token) if request.page_token.isdecimal() else 0
    query = sa.select(table).where(table.c.orphan_id > after).order_by(table.c.orphan_id)
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    response = pb.ListOrphansResponse(
        next_page_token=str(page[-1].orphan_id) if len(rows) > len(page) else ""
    )
    for row in page:
        orphan = response.orphans.add(
            provider=row.provider,
            event_id=row.event_id,
            attempt_id=row.attempt_id,
            type=row.kind,
            amount_minor=row.amount_minor,
            currency=row.currency,
        )
        _set_time(orphan.receive_time, row.time_ms)
    return response


def totals(connection: sa.Connection, now_ms: int) -> dict[str, int]:
    """Returns counts by name, each 0 or more; `settlement_lag_ms` is an age.

    Args:
        connection: A reader.
        now_ms: The time, for the age of what waits.
    """
    counters = {f"attempt_{state.lower()}_count": 0 for state in AttemptState}
    counters |= {f"refund_{state.lower()}_count": 0 for state in RefundState}
    for table, prefix in ((schema.attempts, "attempt"), (schema.refunds, "refund")):
        column = table.c.state
        for row in connection.execute(sa.select(column, sa.func.count()).group_by(column)):
            counters[f"{prefix}_{row[0].lower()}_count"] = row[1]
    sums = sa.select(
        sa.func.coalesce(sa.func.sum(schema.attempts.c.ask_count), 0),
        sa.func.coalesce(sa.func.sum(schema.attempts.c.ignored_count), 0),
    )
    asks, ignored = connection.execute(sums).one()
    waiting = schema.settlements.c.next_try_ms.is_not(None)
    oldest = sa.func.min(schema.settlements.c.create_ms)
    count, since_ms = connection.execute(sa.select(sa.func.count(), oldest).where(waiting)).one()
    counters["ask_count"] = asks
    counters["ignored_news_count"] = ignored
    counters["settlement_waiting_count"] = count
    counters["settlement_lag_ms"] = 0 if since_ms is None else max(0, now_ms - since_ms)
    counters["refund_unrecorded_count"] = connection.execute(
        sa.select(sa.func.count()).where(sa.not_(schema.refunds.c.is_recorded))
    ).scalar_one()
    counters["orphan_count"] = connection.execute(
        sa.select(sa.func.count()).select_from(schema.orphans)
    ).scalar_one()
    return counters


def _set_time(field: Timestamp, time_ms: int) -> None:
    field.FromMilliseconds(time_ms)
