"""The bytes kept in `core_rs/wire/tests/golden.txt` are those that Python writes and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from google.rpc import error_details_pb2, status_pb2

from lastunit.stock.v1 import stock_service_pb2

from . import messages

GOLDEN: Final = Path(__file__).resolve().parents[3] / "core_rs/wire/tests/golden.txt"


def read_golden() -> dict[str, bytes]:
    """Reads the rows: a name, a blank, bytes in hexadecimal."""
    rows = (line.split(" ") for line in GOLDEN.read_text().splitlines() if line[:1] != "#")
    return {name: bytes.fromhex(text) for name, text in rows}


REQUESTS: Final = {
    **messages.list_stock_requests(),
    **messages.list_admin_requests(),
    "Exchange": messages.make_exchange(),
}


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_python_writes_the_bytes_that_rust_is_tested_to_read(name: str) -> None:
    """The kept bytes of a request are what Python writes for the same fields."""
    written = REQUESTS[name].SerializeToString(deterministic=True)

    assert read_golden()[name] == written, f"{name} {written.hex()}"


@pytest.mark.parametrize("name", sorted(messages.list_responses()))
def test_python_reads_the_bytes_that_rust_is_tested_to_write(name: str) -> None:
    """A response written by Rust reads as the message it should be, with no field left over."""
    expected = messages.list_responses()[name]

    read = type(expected).FromString(read_golden()[name])

    assert expected == read
    assert expected.SerializeToString(deterministic=True) == read.SerializeToString(
        deterministic=True
    )


def test_python_reads_the_status_that_rust_is_tested_to_write() -> None:
    """A fault's status holds ErrorInfo, BadRequest and RetryInfo in the standard's messages."""
    status = status_pb2.Status.FromString(read_golden()["status"])
    details = {detail.type_url: detail for detail in status.details}

    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for message in (info, bad, retry):
        assert details[f"type.googleapis.com/{message.DESCRIPTOR.full_name}"].Unpack(message)

    violation = bad.field_violations[0]
    found = {
        "code": status.code,
        "message": status.message,
        "reason": info.reason,
        "domain": info.domain,
        "metadata": dict(info.metadata),
        "field": violation.field,
        "description": violation.description,
        "rule": violation.reason,
        "retry_ms": retry.retry_delay.ToMilliseconds(),
    }

    expected = {
        "code": 3,
        "message": "a field is wrong",
        "reason": "INVALID_FIELD",
        "domain": "lastunit",
        "metadata": {"field": "units"},
        "field": "units",
        "description": "must be at least 1",
        "rule": "INT64_GTE",
        "retry_ms": 1500,
    }
    assert expected == found


def test_every_method_of_the_ledger_has_a_kept_request() -> None:
    """A new unary method of StockService needs a row."""
    service = stock_service_pb2.DESCRIPTOR.services_by_name["StockService"]

    assert {method.name for method in service.methods} <= REQUESTS.keys()
