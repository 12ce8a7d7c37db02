"""Compares a provider's bill with the books, line by line and to the unit of money.

Owns what a difference is, and the marks of what a bill had. Must not fetch a bill or read a file:
it is given pages. Next: `lastunit.payment.bill_import` keeps count of the pages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import attempts, incidents, orphans, refunds, schema
from lastunit.payment.attempts import Fact
from lastunit.payment.incidents import IncidentKind, Sighting
from lastunit.payment.provider import BillLine, BillLineKind
from lastunit.payment.refund_states import RefundEvent, RefundState
from lastunit.payment.refunds import RefundNews
from lastunit.payment.states import News
from lastunit.payment.transitions import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.payment.schedule import Schedule

__all__ = ["DAY_MS", "EDGE_MS", "Comparison", "Sum", "take_lines", "take_missing"]

DAY_MS: Final = 86_400_000

EDGE_MS: Final = 600_000
"""What happened so long before a day's end may stand in the next day's bill: it is missed only
when that has come as well."""

_K = IncidentKind

# A refund that a human vouched for never stood on this provider's bill.
_ELSEWHERE: Final = "elsewhere"


@dataclass(slots=True)
class Sum:
    """Sums up bill and books of one currency, minor units and counts."""

    billed_payment_count: int = 0
    billed_payment_minor: int = 0
    billed_refund_count: int = 0
    billed_refund_minor: int = 0
    booked_payment_count: int = 0
    booked_payment_minor: int = 0
    booked_refund_count: int = 0
    booked_refund_minor: int = 0


@dataclass(slots=True)
class Comparison:
    """Is one import of a bill, in the transaction of one page.

    Attributes:
        connection: Inside a transaction.
        import_id: Names the import.
        provider: Whose bill.
        day: Of which day, for the record.
        actor: Who imports it.
        is_compare_only: True to settle nothing from the bill.
        now_ms: The time.
        schedule: Says when to ask next, where an attempt is asked for again.
        sums: By currency, so far.
        found: Ids of the incidents that this page showed, in its order.
    """

    connection: sa.Connection
    import_id: str
    provider: str
    day: str
    actor: str
    is_compare_only: bool
    now_ms: int
    schedule: Schedule
    sums: dict[str, Sum]
    found: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        """How a transition names the bill."""
        return f"bill {self.day}"

    def sum_of(self, currency: str) -> Sum:
        """Returns the sums of a currency."""
        return self.sums.setdefault(currency, Sum())

    def note(self, sighting: Sighting) -> None:
        """Writes a difference down."""
        incidents.note(self.connection, sighting, now_ms=self.now_ms)
        self.found.append(sighting.incident_id)

    def plain_sums(self) -> dict[str, dict[str, int]]:
        """Returns the sums as plain values."""
        return {currency: asdict(each) for currency, each in self.sums.items()}


def take_lines(comparison: Comparison, lines: Sequence[BillLine]) -> None:
    """Compares one page of a bill, and marks what it has."""
    known = _attempts_of(comparison, lines)
    back = _refunds_of(comparison, lines)
    for line in lines:
        if line.kind is BillLineKind.PAYMENT:
            _take_payment(comparison, line, known.get(line.merchant_no))
        else:
            _take_refund(comparison, line, _refund_of(line, back))


def take_missing(
    comparison: Comparison, *, is_refunds: bool, day_ms: int, cursor: str, limit: int
) -> str:
    """Notes what the books have of a day and no bill has had.

    Args:
        comparison: The import; all lines of the bill were taken.
        is_refunds: False for payments.
        day_ms: When the bill's day begins.
        cursor: As the call before returned it; empty for the first one.
        limit: At most so many rows, 1 or more.

    Returns:
        Where to go on; empty if that was all.
    """
    rows = _unbilled(comparison, is_refunds=is_refunds, day_ms=day_ms, cursor=cursor, limit=limit)
    for row in rows:
        _note_missing(comparison, row, is_refunds=is_refunds)
    if len(rows) < limit:
        return ""
    last = rows[-1]
    return f"{last.happened_ms} {last.row_id}"


# --- inside --------------------------------------------------------------------------------


def _attempts_of(comparison: Comparison, lines: Sequence[BillLine]) -> dict[str, sa.Row[Any]]:
    table = schema.attempts
    numbers = {line.merchant_no for line in lines if line.kind is BillLineKind.PAYMENT}
    query = sa.select(table).where(
        table.c.attempt_id.in_(numbers), table.c.provider == comparison.provider
    )
    return {row.attempt_id: row for row in comparison.connection.execute(query)}


def _refunds_of(comparison: Comparison, lines: Sequence[BillLine]) -> list[sa.Row[Any]]:
    table = schema.refunds
    numbers = {line.merchant_no for line in lines if line.kind is BillLineKind.REFUND}
    query = sa.select(table).where(
        table.c.attempt_id.in_(numbers), table.c.provider == comparison.provider
    )
    return list(comparison.connection.execute(query))


def _refund_of(line: BillLine, rows: Sequence[sa.Row[Any]]) -> sa.Row[Any] | None:
    """Returns the refund of a line: by our key, or, if the bill tells none, by the provider's."""
    refund_id = line.refund_key.partition(".")[0]
    for row in rows:
        if row.attempt_id != line.merchant_no:
            continue
        if row.refund_id == refund_id or (not refund_id and row.refund_no == line.provider_no):
            return row
    return None


def _take_payment(comparison: Comparison, line: BillLine, attempt: sa.Row[Any] | None) -> None:
    total = comparison.sum_of(line.currency)
    total.billed_payment_count += 1
    total.billed_payment_minor += line.amount_minor
    if attempt is None:
        _keep_stranger(comparison, line)
        return
    # Read again: a line before this one may have changed it.
    attempt = attempts.load(comparison.connection, line.merchant_no) or attempt
    if attempt.billed_import == comparison.import_id:
        _note(comparison, line, _K.BILLED_TWICE, order_id=attempt.order_id)
        return
    if attempt.paid_amount_minor:
        told = (line.amount_minor, line.currency)
        if told != (attempt.paid_amount_minor, attempt.paid_currency):
            money = (attempt.paid_amount_minor, attempt.paid_currency)
            _note(comparison, line, _K.PAID_DIFFERS, order_id=attempt.order_id, books=money)
        booked = comparison.sum_of(attempt.paid_currency)
        booked.booked_payment_count += 1
        booked.booked_payment_minor += attempt.paid_amount_minor
    else:
        _note(comparison, line, _K.PAID_UNHEARD, order_id=attempt.order_id)
        _settle(comparison, line)
    _mark(comparison, schema.attempts, schema.attempts.c.attempt_id == line.merchant_no)
    if not attempt.billed_import:
        _end_missing(comparison, _K.MISSING_AT_PROVIDER, line.merchant_no, "")


def _settle(comparison: Comparison, line: BillLine) -> None:
    """Takes the bill's word for a payment that nobody has told of."""
    if comparison.is_compare_only:
        return
    fact = Fact(
        News.PAID,
        "bill",
        provider_no=line.provider_no,
        amount_minor=line.amount_minor,
        currency=line.currency,
        occurred_ms=line.occurred_ms,
        cause=comparison.source,
        actor=comparison.actor,
    )
    attempts.record(
        comparison.connection,
        line.merchant_no,
        fact,
        now_ms=comparison.now_ms,
        schedule=comparison.schedule,
    )


def _take_refund(comparison: Comparison, line: BillLine, refund: sa.Row[Any] | None) -> None:
    total = comparison.sum_of(line.currency)
    total.billed_refund_count += 1
    total.billed_refund_minor += line.amount_minor
    if refund is None:
        _note(comparison, line, _K.UNKNOWN_REFUND)
        return
    refund = refunds.load(comparison.connection, refund.refund_id) or refund
    money = (refund.amount_minor, refund.currency)
    order_id = refund.order_id
    if refund.billed_import == comparison.import_id:
        _note(comparison, line, _K.BILLED_TWICE, order_id=order_id)
        return
    if (line.amount_minor, line.currency) != money:
        _note(comparison, line, _K.REFUND_DIFFERS, order_id=order_id, books=money)
    if refund.state == RefundState.DONE:
        booked = comparison.sum_of(refund.currency)
        booked.booked_refund_count += 1
        booked.booked_refund_minor += refund.amount_minor
    else:
        _note(comparison, line, _K.REFUND_UNHEARD, order_id=order_id, books=money)
        if not comparison.is_compare_only and (line.amount_minor, line.currency) == money:
            news = RefundNews(
                RefundEvent.DONE,
                Cause(comparison.source, comparison.actor),
                refund_no=line.provider_no,
                occurred_ms=line.occurred_ms,
            )
            refunds.record(
                comparison.connection,
                refund.refund_id,
                news,
                now_ms=comparison.now_ms,
                schedule=comparison.schedule,
            )
    _mark(comparison, schema.refunds, schema.refunds.c.refund_id == refund.refund_id)
    if not refund.billed_import:
        kind = _K.REFUND_MISSING_AT_PROVIDER
        _end_missing(comparison, kind, line.merchant_no, refund.refund_id)


def _note(
    comparison: Comparison,
    line: BillLine,
    kind: IncidentKind,
    *,
    order_id: str = "",
    books: tuple[int, str] = (0, ""),
) -> None:
    is_refund = line.kind is BillLineKind.REFUND
    comparison.note(
        Sighting(
            kind,
            provider=comparison.provider,
            attempt_id=line.merchant_no,
            what=f"{line.kind.lower()} {line.provider_no}",
            source=comparison.source,
            refund_key=(line.refund_key or line.provider_no) if is_refund else "",
            order_id=order_id,
            expected_minor=books[0],
            expected_currency=books[1],
            found_minor=line.amount_minor,
            found_currency=line.currency,
        )
    )


def _keep_stranger(comparison: Comparison, line: BillLine) -> None:
    """Keeps a payment of an attempt nobody here has started, as news of it would be."""
    sighting = Sighting(
        _K.UNKNOWN_ATTEMPT,
        provider=comparison.provider,
        attempt_id=line.merchant_no,
        what="payment.succeeded",
        source=comparison.source,
        found_minor=line.amount_minor,
        found_currency=line.currency,
    )
    event_id = f"{comparison.source} {line.provider_no}"
    orphans.keep(comparison.connection, sighting, event_id=event_id, now_ms=comparison.now_ms)
    comparison.found.append(sighting.incident_id)


def _mark(comparison: Comparison, table: sa.Table, this: sa.ColumnElement[bool]) -> None:
    comparison.connection.execute(
        sa.update(table).where(this).values(billed_import=comparison.import_id)
    )


def _end_missing(
    comparison: Comparison, kind: IncidentKind, attempt_id: str, refund_key: str
) -> None:
    incidents.end(
        comparison.connection,
        kind,
        attempt_id=attempt_id,
        refund_key=refund_key,
        reason=f"it stands on the {comparison.source}",
        now_ms=comparison.now_ms,
    )


def _unbilled(
    comparison: Comparison, *, is_refunds: bool, day_ms: int, cursor: str, limit: int
) -> Sequence[sa.Row[Any]]:
    """Returns what was paid, or went back, in the day and stands on no bill, oldest first."""
    table = schema.refunds if is_refunds else schema.attempts
    happened = table.c.done_ms if is_refunds else table.c.occurred_ms
    row_id = table.c.refund_id if is_refunds else table.c.attempt_id
    query = sa.select(table, happened.label("happened_ms"), row_id.label("row_id")).where(
        table.c.provider == comparison.provider,
        happened >= day_ms - EDGE_MS,
        happened < day_ms + DAY_MS - EDGE_MS,
        table.c.billed_import == "",
    )
    if is_refunds:
        query = query.where(
            table.c.state == RefundState.DONE.value, table.c.refund_no != _ELSEWHERE
        )
    else:
        query = query.where(table.c.paid_amount_minor > 0)
    if cursor:
        since, _, last = cursor.partition(" ")
        after = sa.tuple_(sa.literal(int(since)), sa.literal(last))
        query = query.where(sa.tuple_(happened, row_id) > after)
    return comparison.connection.execute(query.order_by(happened, row_id).limit(limit)).all()


def _note_missing(comparison: Comparison, row: sa.Row[Any], *, is_refunds: bool) -> None:
    amount_minor = row.amount_minor if is_refunds else row.paid_amount_minor
    currency = row.currency if is_refunds else row.paid_currency
    booked = comparison.sum_of(currency)
    if is_refunds:
        booked.booked_refund_count += 1
        booked.booked_refund_minor += amount_minor
    else:
        booked.booked_payment_count += 1
        booked.booked_payment_minor += amount_minor
    comparison.note(
        Sighting(
            _K.REFUND_MISSING_AT_PROVIDER if is_refunds else _K.MISSING_AT_PROVIDER,
            provider=comparison.provider,
            attempt_id=row.attempt_id,
            what=f"not on the {comparison.source}",
            source=comparison.source,
            refund_key=row.refund_id if is_refunds else "",
            order_id=row.order_id,
            expected_minor=amount_minor,
            expected_currency=currency,
        )
    )
