"""Takes a bill page by page: fetches a page or is given it, and keeps how far it came.

Owns the rows of imports, the order of their steps (lines, then what the bill misses) and that a
page counts once. Must not judge a line: `bill` does. Next: `lastunit.payment.bill`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import bill, incidents, schema, views
from lastunit.payment.bill import DAY_MS, Comparison, Sum
from lastunit.payment.provider import (
    BillLine,
    BillLineKind,
    BillPage,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit.payment.provider import Provider
    from lastunit.payment.schedule import Schedule
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["LINES_PER_PAGE_MAX", "BillImporter"]

LINES_PER_PAGE_MAX: Final = 500
"""A page is one transaction, which settlement waits for."""

CURSOR_CHARACTERS_MAX: Final = 1_024


class _Step(StrEnum):
    LINES = "LINES"
    MISSING_PAYMENTS = "MISSING_PAYMENTS"
    MISSING_REFUNDS = "MISSING_REFUNDS"
    DONE = "DONE"


_NEXT_STEP: Final = {
    _Step.LINES: _Step.MISSING_PAYMENTS,
    _Step.MISSING_PAYMENTS: _Step.MISSING_REFUNDS,
    _Step.MISSING_REFUNDS: _Step.DONE,
}


@dataclass(frozen=True, slots=True)
class _Progress:
    """Is how far an import has come before a page."""

    step: _Step
    page_number: int
    cursor: str
    sums: dict[str, Any]
    last_answer: bytes


_FIRST: Final = _Progress(
    _Step.LINES, 0, "", {"lines": 0, "differences": 0, "by_currency": {}}, b""
)


class BillImporter:
    """Imports bills.

    Args:
        database: The payment service's tables, for reading.
        runner: Writes them.
        providers: By name; only those that are configured.
        clock: Tells the time.
        schedule: Says when to ask next, where an attempt is asked for again.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        providers: Mapping[str, Provider],
        clock: Clock,
        schedule: Schedule,
    ) -> None:
        self._database = database
        self._runner = runner
        self._providers = providers
        self._clock = clock
        self._schedule = schedule

    async def take_page(self, request: pb.ImportBillRequest, actor: str) -> pb.ImportBillResponse:
        """Takes one page, or gives the answer of one that was taken again.

        Args:
            request: Which import, which page, and its lines if they are given.
            actor: Who imports it.
        """
        if request.provider not in self._providers:
            return pb.ImportBillResponse(refusal=pb.REFUSAL_UNKNOWN_PROVIDER)
        with self._database.read() as connection:
            answer = _known_answer(_load(connection, request.request_id), request)
            progress = _progress(_load(connection, request.request_id))
        if answer is not None:
            return answer
        page = BillPage((), "")
        if progress.step is _Step.LINES:
            try:
                page = await self._page(request, progress)
            except (ProviderUnavailableError, ProviderRefusedError):
                return pb.ImportBillResponse(
                    refusal=pb.REFUSAL_PROVIDER_DOWN, next_page_number=progress.page_number
                )

        def work(connection: sa.Connection) -> pb.ImportBillResponse:
            # Another process may have taken this page meanwhile.
            row = _load(connection, request.request_id)
            taken = _known_answer(row, request)
            return taken or self._take(connection, request, page, actor)

        return await self._runner.run(work)

    async def _page(self, request: pb.ImportBillRequest, progress: _Progress) -> BillPage:
        if request.source == pb.BILL_SOURCE_LINES:
            lines = tuple(map(_line, request.lines))
            return BillPage(lines, "" if request.is_last else "given")
        day_ms = request.day_time.ToMilliseconds()
        page = await self._providers[request.provider].bill(
            day_ms, day_ms + DAY_MS, cursor=progress.cursor, limit=LINES_PER_PAGE_MAX
        )
        if len(page.lines) > LINES_PER_PAGE_MAX or len(page.next_cursor) > CURSOR_CHARACTERS_MAX:
            raise ProviderUnavailableError("a page of the bill is larger than was asked for")
        return page

    def _take(
        self,
        connection: sa.Connection,
        request: pb.ImportBillRequest,
        page: BillPage,
        actor: str,
    ) -> pb.ImportBillResponse:
        """Compares one page and writes down how far it came, in one transaction."""
        progress = _progress(_load(connection, request.request_id))
        now_ms = self._clock.now_ms()
        by_currency = progress.sums["by_currency"]
        comparison = Comparison(
            connection=connection,
            import_id=request.request_id,
            provider=request.provider,
            day=_day(request),
            actor=actor,
            is_compare_only=request.is_compare_only,
            now_ms=now_ms,
            schedule=self._schedule,
            sums={currency: Sum(**each) for currency, each in by_currency.items()},
        )
        cursor = _compare(comparison, progress, request.day_time.ToMilliseconds(), page)
        step = progress.step if cursor else _NEXT_STEP[progress.step]
        sums = {
            "lines": progress.sums["lines"] + len(page.lines),
            "differences": progress.sums["differences"] + len(comparison.found),
            "by_currency": comparison.plain_sums(),
        }
        answer = _answer(comparison, step, progress.page_number + 1, sums)
        values = {
            "step": step.value,
            "page_number": progress.page_number + 1,
            "cursor": cursor,
            "sums": json.dumps(sums),
            "last_answer": answer.SerializeToString(),
            "update_ms": now_ms,
        }
        _save(connection, request, values, actor=actor, now_ms=now_ms)
        return answer


def _compare(comparison: Comparison, progress: _Progress, day_ms: int, page: BillPage) -> str:
    """Does the work of one page; returns where the step goes on, empty if it is over."""
    if progress.step is _Step.LINES:
        bill.take_lines(comparison, page.lines)
        return page.next_cursor
    return bill.take_missing(
        comparison,
        is_refunds=progress.step is _Step.MISSING_REFUNDS,
        day_ms=day_ms,
        cursor=progress.cursor,
        limit=LINES_PER_PAGE_MAX,
    )


def _known_answer(
    row: sa.Row[Any] | None, request: pb.ImportBillRequest
) -> pb.ImportBillResponse | None:
    """Returns what is to be answered without taking the page; None if it is the next one."""
    if row is None:
        if request.page_number == 0:
            return None
        return pb.ImportBillResponse(refusal=pb.REFUSAL_WRONG_PAGE)
    pairs = (
        ("provider", row.provider, request.provider),
        ("day_time", row.day, _day(request)),
        ("source", row.source, pb.BillSource.Name(request.source)),
        ("is_compare_only", row.is_compare_only, request.is_compare_only),
    )
    field = next((name for name, first, now in pairs if first != now), "")
    if field:
        return pb.ImportBillResponse(refusal=pb.REFUSAL_CONFLICT, conflict_field=field)
    if request.page_number == row.page_number and row.step != _Step.DONE:
        return None
    if request.page_number == row.page_number - 1:
        answer = pb.ImportBillResponse.FromString(row.last_answer)
        answer.replayed = True
        return answer
    return pb.ImportBillResponse(
        refusal=pb.REFUSAL_WRONG_PAGE,
        next_page_number=row.page_number,
        is_done=row.step == _Step.DONE,
    )


def _answer(
    comparison: Comparison, step: _Step, page_number: int, sums: dict[str, Any]
) -> pb.ImportBillResponse:
    answer = pb.ImportBillResponse(
        is_done=step is _Step.DONE,
        next_page_number=page_number,
        line_count=sums["lines"],
        difference_count=sums["differences"],
        sums=[
            pb.BillSum(currency=currency, **each)
            for currency, each in sorted(sums["by_currency"].items())
        ],
    )
    for incident_id in comparison.found:
        row = incidents.load(comparison.connection, incident_id)
        if row is not None:
            answer.differences.append(views.incident(row))
    return answer


def _load(connection: sa.Connection, import_id: str) -> sa.Row[Any] | None:
    table = schema.bill_imports
    return connection.execute(sa.select(table).where(table.c.import_id == import_id)).one_or_none()


def _progress(row: sa.Row[Any] | None) -> _Progress:
    if row is None:
        return _FIRST
    return _Progress(
        _Step(row.step), row.page_number, row.cursor, json.loads(row.sums), row.last_answer
    )


def _save(
    connection: sa.Connection,
    request: pb.ImportBillRequest,
    values: dict[str, Any],
    *,
    actor: str,
    now_ms: int,
) -> None:
    table = schema.bill_imports
    if _load(connection, request.request_id) is not None:
        this = table.c.import_id == request.request_id
        connection.execute(sa.update(table).where(this).values(**values))
        return
    first = {
        "import_id": request.request_id,
        "provider": request.provider,
        "day": _day(request),
        "source": pb.BillSource.Name(request.source),
        "is_compare_only": request.is_compare_only,
        "actor": actor,
        "create_ms": now_ms,
    }
    connection.execute(sa.insert(table), first | values)


def _day(request: pb.ImportBillRequest) -> str:
    """Returns how the day is written down: as a date if it begins at midnight UTC."""
    begin = datetime.fromtimestamp(request.day_time.ToMilliseconds() // 1_000, UTC)
    is_midnight = request.day_time.ToMilliseconds() % DAY_MS == 0
    return begin.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%dT%H:%M:%SZ")


def _line(line: pb.BillLine) -> BillLine:
    return BillLine(
        kind=BillLineKind(pb.BillLineKind.Name(line.kind).removeprefix("BILL_LINE_KIND_")),
        merchant_no=line.merchant_no,
        provider_no=line.provider_no,
        amount_minor=line.amount_minor,
        currency=line.currency,
        occurred_ms=line.occurred_time.ToMilliseconds(),
        refund_key=line.refund_key,
    )
