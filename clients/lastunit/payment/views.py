"""Shows what the payment service has, as messages of `lastunit.payment.v1`.

Owns the mapping of rows to messages, pages and sums. Must not change anything.
Next: `lastunit.payment.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.payment import incidents, outbox, schema, transitions
from lastunit.payment.desk import ALLOWED
from lastunit.payment.incidents import SEVERITIES, IncidentKind, IncidentState
from lastunit.payment.refund_states import RefundState
from lastunit.payment.states import AttemptState
from lastunit.payment.v1 import payment_service_pb2 as pb

__all__ = [
    "attempt",
    "incident",
    "list_attempts",
    "list_incidents",
    "list_orphans",
    "list_refunds",
    "list_transitions",
    "provider",
    "refund",
    "totals",
    "unrefunded_attempt",
]

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


def attempt(connection: sa.Connection, row: sa.Row[Any]) -> pb.Attempt:
    """Returns one attempt as a message, with how far giving its money back is.

    Args:
        connection: A reader.
        row: The attempt.
    """
    message = unrefunded_attempt(row)
    table = schema.refunds
    query = sa.select(table.c.state, table.c.amount_minor).where(
        table.c.attempt_id == row.attempt_id
    )
    for each in connection.execute(query.order_by(table.c.create_ms, table.c.refund_id)):
        message.refund_state = pb.RefundState.Value(f"REFUND_STATE_{each.state}")
        if each.state == RefundState.DONE:
            message.refunded_amount_minor += each.amount_minor
    return message


def unrefunded_attempt(row: sa.Row[Any]) -> pb.Attempt:
    """Returns an attempt that has no refund yet as a message; no look at the database is needed."""
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
        failure_step=row.failure_step,
        provider_state_version=row.provider_version,
    )
    _set_time(message.start_time, row.start_ms)
    _set_time(message.settle_by_time, row.settle_by_ms)
    if row.next_ask_ms is not None:
        _set_time(message.next_ask_time, row.next_ask_ms)
    return message


def refund(row: sa.Row[Any]) -> pb.Refund:
    """Returns one refund as a message."""
    message = pb.Refund(
        refund_id=row.refund_id,
        attempt_id=row.attempt_id,
        request_id=row.request_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        state=pb.RefundState.Value(f"REFUND_STATE_{row.state}"),
        reason=row.reason,
        failure_code=row.failure_code,
        actor=row.actor,
        provider_refund_no=row.refund_no,
    )
    _set_time(message.create_time, row.create_ms)
    _set_time(message.update_time, row.update_ms)
    if row.next_try_ms is not None:
        _set_time(message.next_try_time, row.next_try_ms)
    return message


def list_refunds(
    connection: sa.Connection, request: pb.ListRefundsRequest
) -> pb.ListRefundsResponse:
    """Returns one page of refunds, oldest first."""
    table = schema.refunds
    query = sa.select(table).order_by(table.c.create_ms, table.c.refund_id)
    if request.attempt_id:
        query = query.where(table.c.attempt_id == request.attempt_id)
    if request.state:
        name = pb.RefundState.Name(request.state).removeprefix("REFUND_STATE_")
        query = query.where(table.c.state == name)
    if request.page_token:
        last = connection.execute(
            sa.select(table.c.create_ms).where(table.c.refund_id == request.page_token)
        ).scalar_one_or_none()
        key = sa.tuple_(table.c.create_ms, table.c.refund_id)
        query = query.where(key > sa.tuple_(sa.literal(last or 0), request.page_token))
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    return pb.ListRefundsResponse(
        refunds=map(refund, page),
        next_page_token=page[-1].refund_id if len(rows) > len(page) else "",
    )


def list_transitions(
    connection: sa.Connection, request: pb.ListTransitionsRequest
) -> pb.ListTransitionsResponse:
    """Returns one page of what happened to an order's attempts and refunds."""
    after = int(request.page_token) if request.page_token.isdecimal() else 0
    rows = transitions.list_of_order(
        connection, request.order_id, after=after, limit=request.page_size + 1
    )
    page = rows[: request.page_size]
    response = pb.ListTransitionsResponse(
        next_page_token=str(page[-1].transition_id) if len(rows) > len(page) else ""
    )
    for row in page:
        is_refund = row.entity == transitions.Entity.REFUND
        shown = response.transitions.add(
            attempt_id=row.attempt_id,
            refund_id=row.entity_id if is_refund else "",
            entity=row.entity,
            event=row.event,
            state_from=row.state_from,
            state_to=row.state_to,
            cause=row.cause,
            actor=row.actor,
        )
        _set_time(shown.time, row.time_ms)
    return response


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
        attempts=[attempt(connection, row) for row in page],
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


def incident(row: sa.Row[Any]) -> pb.Incident:
    """Returns one incident as a message."""
    kind = IncidentKind(row.kind)
    message = pb.Incident(
        incident_id=row.incident_id,
        kind=pb.IncidentKind.Value(f"INCIDENT_KIND_{row.kind}"),
        state=pb.IncidentState.Value(f"INCIDENT_STATE_{row.state}"),
        severity=SEVERITIES[kind].value,
        provider=row.provider,
        attempt_id=row.attempt_id,
        order_id=row.order_id,
        refund_key=row.refund_key,
        what=row.what,
        expected_amount_minor=row.expected_minor,
        expected_currency=row.expected_currency,
        found_amount_minor=row.found_minor,
        found_currency=row.found_currency,
        last_source=row.last_source,
        seen_count=row.seen_count,
        allowed=sorted(
            pb.IncidentResolution.Value(f"INCIDENT_RESOLUTION_{each}") for each in ALLOWED[kind]
        ),
    )
    _set_time(message.first_seen_time, row.first_seen_ms)
    _set_time(message.last_seen_time, row.last_seen_ms)
    if row.state == IncidentState.RESOLVED:
        name = f"INCIDENT_RESOLUTION_{row.resolution}"
        message.resolution = pb.IncidentResolution.Value(name)
        message.actor, message.reason = row.actor, row.reason
        message.refund_id = row.refund_id
        _set_time(message.resolve_time, row.resolve_ms)
    return message


def list_incidents(
    connection: sa.Connection, request: pb.ListIncidentsRequest
) -> pb.ListIncidentsResponse:
    """Returns one page of incidents, oldest first."""
    table = schema.incidents
    query = sa.select(table).order_by(table.c.first_seen_ms, table.c.incident_id)
    if request.state:
        name = pb.IncidentState.Name(request.state).removeprefix("INCIDENT_STATE_")
        query = query.where(table.c.state == name)
    if request.kind:
        name = pb.IncidentKind.Name(request.kind).removeprefix("INCIDENT_KIND_")
        query = query.where(table.c.kind == name)
    if request.attempt_id:
        query = query.where(table.c.attempt_id == request.attempt_id)
    if request.page_token:
        last = incidents.load(connection, request.page_token)
        key = sa.tuple_(table.c.first_seen_ms, table.c.incident_id)
        seen_ms = 0 if last is None else last.first_seen_ms
        query = query.where(key > sa.tuple_(sa.literal(seen_ms), request.page_token))
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    return pb.ListIncidentsResponse(
        incidents=map(incident, page),
        next_page_token=page[-1].incident_id if len(rows) > len(page) else "",
    )


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
    counters["ask_count"] = asks
    counters["ignored_news_count"] = ignored
    counters |= _waiting(connection, now_ms)
    undone = [state for state in RefundState if state is not RefundState.DONE]
    counters["refund_unrecorded_count"] += sum(
        counters[f"refund_{state.lower()}_count"] for state in undone
    )
    counters["orphan_count"] = connection.execute(
        sa.select(sa.func.count()).select_from(schema.orphans)
    ).scalar_one()
    counters["incident_open_count"] = sum(incidents.open_counts(connection).values())
    return counters


def _waiting(connection: sa.Connection, now_ms: int) -> dict[str, int]:
    """Returns what the ledger has still to be told."""
    table = schema.settlements
    count, since_ms = connection.execute(
        sa.select(sa.func.count(), sa.func.min(table.c.create_ms)).where(
            table.c.next_try_ms.is_not(None)
        )
    ).one()
    untold = sa.select(sa.func.count()).where(
        table.c.next_try_ms.is_not(None), table.c.payment_result == outbox.REFUNDED
    )
    return {
        "settlement_waiting_count": count,
        "settlement_lag_ms": 0 if since_ms is None else max(0, now_ms - since_ms),
        "refund_unrecorded_count": connection.execute(untold).scalar_one(),
    }


def _set_time(field: Timestamp, time_ms: int) -> None:
    field.FromMilliseconds(time_ms)
