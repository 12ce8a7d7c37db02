"""The command `lastunit payment import-bill`: a provider's bill of a day against the books.

Owns flags, what is printed and the exit status: 0 they agree, 3 they differ, 1 refused, 2 a wrong
argument or file, 6 the service can't be reached. Must not compare anything: the service does.
Next: `lastunit.payment.bill`, docs/operating/bills.md.
"""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime
from itertools import islice
from pathlib import Path  # noqa: TC003 - typer reads the annotation when it runs
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from google.protobuf.json_format import MessageToDict

from lastunit.payment import desk_cli
from lastunit.payment.bill_file import BillFileError, read_lines
from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["import_bill"]

_LINES_PER_PAGE: Final = 500
_DIFFER: Final = 3
_WRONG: Final = 2
# What is printed for people; all of them are in the list of incidents and in --json.
_SHOWN_MAX: Final = 50
# A page of a bill is judged, attempt by attempt, before it is answered.
_IMPORT_SECONDS_MAX: Final = 30.0
# A provider that is down for a moment must not end an import of half an hour.
_DOWN_TRIES: Final = 10
_DOWN_PAUSE_SECONDS: Final = 3.0


def import_bill(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The bill as CSV; left out, the service asks the provider.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    *,
    address: desk_cli.AddressOption,
    provider: Annotated[str, typer.Option(help="Whose bill.")],
    day: Annotated[
        str,
        typer.Option(
            help="Of which day, 2026-11-22 in UTC, or when it begins: 2026-11-22T00:00:00+08:00."
        ),
    ],
    compare_only: Annotated[
        bool,
        typer.Option("--compare-only", help="Note differences and settle nothing from the bill."),
    ] = False,
    actor: desk_cli.ActorOption = "",
    request_id: desk_cli.RequestOption = "",
    as_json: desk_cli.JsonOption = False,
) -> None:
    """Compares a provider's bill of a day with the books; each difference is an incident."""
    request = pb.ImportBillRequest(
        request_id=desk_cli.request_or_new(request_id, "bill"),
        provider=provider,
        source=pb.BILL_SOURCE_PROVIDER if file is None else pb.BILL_SOURCE_LINES,
        is_compare_only=compare_only,
        actor=desk_cli.actor_or_login(actor),
    )
    request.day_time.FromMilliseconds(_day_ms(day))
    try:
        # All of it is read before any of it is sent: a broken file changes nothing.
        count = 0 if file is None else sum(1 for _ in read_lines(file))
        lines = iter(()) if file is None else read_lines(file)
        answer, differences = _send(address, request, lines, count)
    except BillFileError as error:
        desk_cli.fail(str(error), status=_WRONG)
    if as_json:
        typer.echo(json.dumps(_report(request, answer, differences)))
    else:
        _print(request, day, answer, differences)
    raise typer.Exit(_DIFFER if answer.difference_count else 0)


def _send(
    address: str, request: pb.ImportBillRequest, lines: Iterator[pb.BillLine], count: int
) -> tuple[pb.ImportBillResponse, list[dict[str, Any]]]:
    """Sends page after page; returns the last answer and all differences."""
    differences: list[dict[str, Any]] = []
    sent = 0
    while True:
        del request.lines[:]
        request.lines.extend(islice(lines, _LINES_PER_PAGE))
        sent += len(request.lines)
        request.is_last = sent >= count
        answer = _ask_patiently(address, request)
        if answer.refusal:
            name = pb.Refusal.Name(answer.refusal).removeprefix("REFUSAL_")
            field = f" in {answer.conflict_field}" if answer.conflict_field else ""
            desk_cli.fail(f"import {request.request_id} is refused: {name}{field}")
        differences += [desk_cli.plain(each) for each in answer.differences]
        if answer.is_done:
            return answer, differences
        request.page_number = answer.next_page_number


def _ask_patiently(address: str, request: pb.ImportBillRequest) -> pb.ImportBillResponse:
    for _ in range(_DOWN_TRIES):
        answer = desk_cli.ask(
            address,
            "ImportBill",
            request,
            pb.ImportBillResponse,
            deadline_seconds=_IMPORT_SECONDS_MAX,
        )
        if answer.refusal != pb.REFUSAL_PROVIDER_DOWN:
            return answer
        time.sleep(_DOWN_PAUSE_SECONDS)
    return answer


def _day_ms(text: str) -> int:
    """Returns when a day begins, milliseconds since the epoch."""
    is_date = len(text) == len("2026-11-22")
    begin = None
    with contextlib.suppress(ValueError):
        begin = datetime.fromisoformat(f"{text}T00:00:00+00:00" if is_date else text)
    if begin is None or begin.tzinfo is None or begin.microsecond or begin.timestamp() < 0:
        raise typer.BadParameter(
            f"--day {text!r} is no day; write 2026-11-22, or 2026-11-22T00:00:00+08:00"
        )
    return round(begin.timestamp() * 1_000)


def _report(
    request: pb.ImportBillRequest,
    answer: pb.ImportBillResponse,
    differences: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "import": request.request_id,
        "provider": request.provider,
        "day_time": request.day_time.ToJsonString(),
        "line_count": answer.line_count,
        "difference_count": answer.difference_count,
        "sums": [
            MessageToDict(
                each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            for each in answer.sums
        ],
        "differences": differences,
    }


def _print(
    request: pb.ImportBillRequest,
    day: str,
    answer: pb.ImportBillResponse,
    differences: list[dict[str, Any]],
) -> None:
    typer.echo(f"bill of {request.provider}, {day}: {answer.line_count:,} lines")
    for each in answer.sums:
        for what in ("payment", "refund"):
            billed, booked = (
                (getattr(each, f"{side}_{what}_count"), getattr(each, f"{side}_{what}_minor"))
                for side in ("billed", "booked")
            )
            typer.echo(
                f"  {each.currency} {what}s: bill {billed[0]:,} for {billed[1]:,},"
                f" books {booked[0]:,} for {booked[1]:,}, difference {billed[1] - booked[1]:,}"
            )
    for shown in differences[:_SHOWN_MAX]:
        kind = shown["kind"].removeprefix("INCIDENT_KIND_")
        books = f"{shown.get('expected_amount_minor', 0)} {shown.get('expected_currency', '')}"
        told = f"{shown.get('found_amount_minor', 0)} {shown.get('found_currency', '')}"
        typer.echo(
            f"  {kind}  attempt {shown.get('attempt_id', '-')}  books {books.strip()},"
            f" bill {told.strip()}  ({shown['incident_id']})"
        )
    if len(differences) > _SHOWN_MAX:
        typer.echo(f"  … and {len(differences) - _SHOWN_MAX:,} more: lastunit payment incidents")
    if answer.difference_count:
        typer.echo(f"{answer.difference_count:,} differences, each an incident")
    else:
        typer.echo("bill and books agree to the unit of money")
