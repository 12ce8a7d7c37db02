"""Reads the books of a shop whose processes were killed, and says what is wrong with them.

Owns: the comparison of payment database, order database, provider's bill and ledger. Only reads.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.client.outcomes import State
from lastunit.order import schema as orders
from lastunit.order import translation
from lastunit.payment import schema as payments
from lastunit.service._engines import READING, open_engine, postgres_reader
from lastunit.service.database import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What a reservation rests in once everything has ended. REFUND_DUE is money that is visibly owed.
ENDED = frozenset({"CONFIRMED", "RELEASED", "REFUND_DUE", "REFUNDED", "RETURNED"})


def places(directory: Path, database: str) -> tuple[sa.Engine, sa.Engine]:
    """Returns engines that read the order and the payment database."""
    if database:
        url = parse_url(database)
        return postgres_reader(url, "lastunit_order"), postgres_reader(url, "lastunit_payment")
    order, payment = directory / "order" / "order.sqlite", directory / "payment" / "payment.sqlite"
    return open_engine(order), open_engine(payment)


def state_name(number: int) -> str:
    """Returns a reservation's state by name."""
    return State(number).name


def _rows(engine: sa.Engine, *tables: sa.Table) -> list[list[Any]]:
    with engine.connect().execution_options(**{READING: True}) as connection:
        found = [list(connection.execute(sa.select(table)).all()) for table in tables]
    engine.dispose()
    return found


def compare_money(engine: sa.Engine, bill: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """Returns what differs between the provider's bill and the books, to the unit of money.

    Args:
        engine: Of the payment database.
        bill: The provider's rows, one for each attempt that took money.
    """
    attempts, refunds, settlements, incidents = _rows(
        engine, payments.attempts, payments.refunds, payments.settlements, payments.incidents
    )
    billed = {row["merchant_no"]: (row["amount_minor"], row["refunded_minor"]) for row in bill}
    given_back: Counter[str] = Counter()
    for refund in refunds:
        if refund.state == "DONE":
            given_back[refund.attempt_id] += refund.amount_minor
    booked = {
        row.attempt_id: (row.paid_amount_minor, given_back[row.attempt_id])
        for row in attempts
        if row.paid_amount_minor
    }
    found = [
        f"{number}: the bill says {billed.get(number)}, the books {booked.get(number)}"
        for number in sorted(set(billed) | set(booked))
        if billed.get(number) != booked.get(number)
    ]
    told = {(row.attempt_id, row.payment_result) for row in settlements if row.next_try_ms is None}
    owed = {row.attempt_id for row in refunds} | {row.attempt_id for row in incidents}
    found += [
        f"{row.attempt_id}: paid, neither told to the ledger nor owed"
        for row in attempts
        if row.paid_amount_minor and (row.attempt_id, "SUCCEEDED") not in told
        if row.attempt_id not in owed
    ]
    found += [
        f"{row.request_id}: the ledger has not been told"
        for row in settlements
        if row.next_try_ms is not None
    ]
    found += [f"{row.refund_id}: a refund is {row.state}" for row in refunds if row.state != "DONE"]
    found += [
        f"{row.attempt_id}: still {row.state}" for row in attempts if row.next_ask_ms is not None
    ]
    numbers = Counter(row.request_id for row in refunds)
    found += [f"{number}: refunded twice" for number, count in numbers.items() if count > 1]
    return found


def compare_orders(engine: sa.Engine, reservations: Mapping[str, str]) -> Sequence[str]:
    """Returns what differs between orders and their reservations, and what is stuck.

    Args:
        engine: Of the order database.
        reservations: State of each by its id.
    """
    states, transitions = _rows(engine, orders.order_states, orders.order_transitions)
    found = [
        f"{key}: its reservation is {state}"
        for key, state in reservations.items()
        if state not in ENDED
    ]
    for row in states:
        expected = translation.order_state(State[reservations.get(row.order_id, "RELEASED")])
        if expected is not None and row.state != expected.value:
            found.append(f"{row.order_id}: the order is {row.state}, the ledger says {expected}")
    moves: dict[str, list[Any]] = {}
    for row in transitions:
        moves.setdefault(row.order_id, []).append(row)
    for order_id, rows in moves.items():
        rows.sort(key=lambda row: row.number)
        if [row.number for row in rows] != list(range(1, len(rows) + 1)):
            found.append(f"{order_id}: its moves are not numbered without a gap")
        seen = Counter(row.ledger_sequence for row in rows if row.ledger_sequence)
        found += [
            f"{order_id}: event {sequence} moved it twice"
            for sequence, count in seen.items()
            if count > 1
        ]
    return found
