"""A bill as a file: what is taken, and which line is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.payment import bill_file
from lastunit.payment.bill_file import BillFileError, read_lines
from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "kind,merchant_no,provider_no,refund_key,amount_minor,currency,occurred_time"
GOOD = "payment,order-1:1,p-1,,84000,CNY,2026-11-22T13:05:09Z"


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """Writes a file."""
    file = path / "bill.csv"
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    return file


def test_lines_are_read_with_columns_in_any_order(tmp_path: Path) -> None:
    """A payment and a refund, other columns beside, a byte order mark, an offset."""
    file = write(
        tmp_path,
        "note,currency,amount_minor,refund_key,provider_no,merchant_no,kind,occurred_time",
        'hello,CNY,84000,,"p,1",order-1:1,Payment,2026-11-22T21:05:09+08:00',
        "x,CNY,4000,r-1,r-77,order-1:1,refund,2026-11-22T13:05:09Z",
        encoding="utf-8-sig",
    )
    paid, back = read_lines(file)

    assert (paid.kind, paid.provider_no, paid.amount_minor) == (
        pb.BILL_LINE_KIND_PAYMENT,
        "p,1",
        84_000,
    )
    assert (back.kind, back.refund_key) == (pb.BILL_LINE_KIND_REFUND, "r-1")
    assert paid.occurred_time == back.occurred_time


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD.replace("payment", "gift"), "line 3: kind is 'gift'"),
        (GOOD.replace("84000", "840.00"), "line 3: amount_minor is '840.00'"),
        (GOOD.replace("84000", "0"), "line 3: amount_minor is '0'"),
        (GOOD.replace("84000", "-5"), "line 3: amount_minor is '-5'"),
        (GOOD.replace("84000", "9" * 16), "at most 1e15"),
        (GOOD.replace("CNY", "yuan"), "line 3: currency is 'yuan'"),
        (GOOD.replace("order-1:1", "order 1"), "line 3: merchant_no is 'order 1'"),
        (GOOD.replace("p-1", "p" * 129), "line 3: provider_no is longer than 128"),
        (GOOD.replace("09Z", "09"), "line 3: occurred_time is"),
        (GOOD.replace("2026-11-22T13:05:09Z", "22.11.2026"), "line 3: occurred_time is"),
        (GOOD.replace("2026", "1960"), "before 1970"),
        ("payment", "line 3: amount_minor is ''"),
        ('payment,"unended', "line"),
        ("x" * 4_097, "line 3: it is longer than 4096"),
    ],
)
def test_a_wrong_line_is_named_with_what_would_be_right(
    tmp_path: Path, line: str, said: str
) -> None:
    """The number of the line, the column and the value stand in the sentence."""
    with pytest.raises(BillFileError) as caught:
        list(read_lines(write(tmp_path, HEAD, GOOD, line)))

    assert said in str(caught.value)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    """All that are missing, and what the first line has to be."""
    with pytest.raises(BillFileError, match="line 1: the columns currency, occurred_time are"):
        list(read_lines(write(tmp_path, HEAD.removesuffix(",currency,occurred_time"))))


def test_another_encoding_is_said(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are no bill."""
    file = write(tmp_path, HEAD, GOOD.replace("p-1", "é"), encoding="latin-1")

    with pytest.raises(BillFileError, match="not UTF-8"):
        list(read_lines(file))


def test_a_file_and_its_lines_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound it is read, one past it is refused."""
    file = write(tmp_path, HEAD, GOOD, GOOD)
    monkeypatch.setattr(bill_file, "LINES_MAX", 3)
    monkeypatch.setattr(bill_file, "FILE_BYTES_MAX", file.stat().st_size)
    assert len(list(read_lines(file))) == 2

    monkeypatch.setattr(bill_file, "LINES_MAX", 2)
    with pytest.raises(BillFileError, match="more than 2 lines"):
        list(read_lines(file))
    monkeypatch.setattr(bill_file, "FILE_BYTES_MAX", file.stat().st_size - 1)
    with pytest.raises(BillFileError, match="at most"):
        list(read_lines(file))
