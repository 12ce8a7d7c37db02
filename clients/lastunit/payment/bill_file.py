"""Reads a bill from a CSV file, line by line, and says which line is wrong and why.

Owns the columns and their limits. Must not hold more than a page of it, or call anybody.
Next: `lastunit.payment.bill_cli`.
"""

from __future__ import annotations

import csv
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final, TextIO

from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["COLUMNS", "BillFileError", "read_lines"]

COLUMNS: Final = (
    "kind",
    "merchant_no",
    "provider_no",
    "refund_key",
    "amount_minor",
    "currency",
    "occurred_time",
)
"""The first line of the file names them, in any order; others are ignored."""

FILE_BYTES_MAX: Final = 1 << 30
LINE_CHARACTERS_MAX: Final = 4_096
LINES_MAX: Final = 10_000_000

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_KEY: Final = re.compile(r"[A-Za-z0-9._:-]{0,64}", re.ASCII)
_AMOUNT: Final = re.compile(r"[1-9][0-9]{0,15}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_AMOUNT_MAX: Final = 1_000_000_000_000_000
_PROVIDER_NO_BYTES_MAX: Final = 128
_KINDS: Final = {
    "payment": pb.BILL_LINE_KIND_PAYMENT,
    "refund": pb.BILL_LINE_KIND_REFUND,
}


class BillFileError(ValueError):
    """A file is no bill; the text names the line and the column."""


def read_lines(path: Path) -> Iterator[pb.BillLine]:
    """Yields the lines of a file; never holds more than one.

    Args:
        path: CSV in UTF-8 with a first line of column names; at most 1 GiB.

    Raises:
        BillFileError: Which line and column are wrong, and what would be right.
    """
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise BillFileError(f"{path.name} has {size} bytes; at most {FILE_BYTES_MAX} are read")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(_bounded(file), strict=True)
        try:
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise BillFileError(
                    f"line 1: the columns {', '.join(missing)} are missing; the first line names"
                    f" {','.join(COLUMNS)}"
                )
            for row in rows:
                yield _line(row, rows.line_num)
        except csv.Error as error:
            raise BillFileError(f"line {rows.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise BillFileError(f"after line {rows.line_num}: it is not UTF-8") from error


def _bounded(file: TextIO) -> Iterator[str]:
    """Yields lines of text, none longer than the bound, nor more than there may be."""
    number = 0
    while True:
        text = file.readline(LINE_CHARACTERS_MAX + 1)
        if not text:
            return
        number += 1
        if len(text) > LINE_CHARACTERS_MAX:
            raise BillFileError(f"line {number}: it is longer than {LINE_CHARACTERS_MAX}")
        if number > LINES_MAX:
            raise BillFileError(f"there are more than {LINES_MAX} lines; split the file")
        yield text


def _line(row: dict[str, str | None], number: int) -> pb.BillLine:
    def text(name: str, pattern: re.Pattern[str], wanted: str) -> str:
        value = row.get(name) or ""
        if not pattern.fullmatch(value):
            raise BillFileError(f"line {number}: {name} is {value[:64]!r}; it must be {wanted}")
        return value

    kind = _KINDS.get((row.get("kind") or "").lower())
    if kind is None:
        raise BillFileError(
            f"line {number}: kind is {(row.get('kind') or '')[:64]!r}; it must be payment or refund"
        )
    amount = int(text("amount_minor", _AMOUNT, "a whole number of minor units, 1 to 1e15"))
    if amount > _AMOUNT_MAX:
        raise BillFileError(f"line {number}: amount_minor is {amount}; at most 1e15 are taken")
    line = pb.BillLine(
        kind=kind,
        merchant_no=text("merchant_no", _ID, "1 to 64 of letters, digits and ._:-"),
        provider_no=row.get("provider_no") or "",
        refund_key=text("refund_key", _KEY, "at most 64 of letters, digits and ._:-"),
        amount_minor=amount,
        currency=text("currency", _CURRENCY, "three capital letters"),
    )
    if len(line.provider_no.encode()) > _PROVIDER_NO_BYTES_MAX:
        raise BillFileError(f"line {number}: provider_no is longer than {_PROVIDER_NO_BYTES_MAX}")
    line.occurred_time.FromMilliseconds(_millis(row.get("occurred_time") or "", number))
    return line


def _millis(value: str, number: int) -> int:
    wanted = "an instant with its offset, such as 2026-11-22T13:05:09Z"
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise BillFileError(f"line {number}: occurred_time is {value[:64]!r}; it must be {wanted}")
    millis = round(instant.timestamp() * 1_000)
    if millis < 0:
        raise BillFileError(f"line {number}: occurred_time is before 1970")
    return millis
