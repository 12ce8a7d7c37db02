"""A journal that was damaged after it was acknowledged is refused with where and what to do."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.conformance.kit import ROOT, Ledger, reserve_request, serve_command, start_server

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    from pathlib import Path


def with_history(directory: Path) -> Path:
    """Makes a journal with some hundred records and no snapshot; returns its data directory."""
    server = start_server(directory)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1000)
    # Many flushes, each answered before the next: a later record says that the middle was durable.
    # In the very last flush damage and an unfinished write can't be told apart.
    for _ in range(20):
        operations = [stock.Operation(reserve=reserve_request(sale_id)) for _ in range(10)]
        message = stock.ExchangeRequest(operations=operations)
        [response] = ledger.stock.Exchange(iter([message]), timeout=20)
        assert all(reply.reserve.result.outcome == 1 for reply in response.replies)
    ledger.close()
    # Killed, so that no snapshot spares the recovery from reading the damaged records.
    server.kill()
    return directory / "data"


def largest_file(directory: Path) -> Path:
    """Returns the journal's only segment with records."""
    return max((file for file in directory.rglob("*") if file.is_file()), key=used_bytes)


def used_bytes(file: Path) -> int:
    """Counts what is not padding at the end of a file."""
    return len(file.read_bytes().rstrip(b"\0"))


def test_a_corrupt_middle_is_refused_with_segment_and_offset(tmp_path: Path) -> None:
    """One flipped bit in the middle of acknowledged records: exit 3, and nothing is cut."""
    segment = largest_file(with_history(tmp_path))
    content = bytearray(segment.read_bytes())
    middle = used_bytes(segment) // 2
    content[middle] ^= 0x10
    segment.write_bytes(content)

    result = subprocess.run(
        serve_command(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )

    assert result.returncode == 3
    assert segment.name in result.stderr
    assert "offset" in result.stderr
    assert any(word in result.stderr for word in ("restore", "backup", "copy"))
    assert "Traceback" not in result.stderr
    assert segment.read_bytes() == bytes(content)


@pytest.mark.parametrize("junk", [b"\xff" * 7, b"\x00" * 64, b"torn record " * 40])
def test_a_torn_tail_is_cut_and_everything_acknowledged_stays(tmp_path: Path, junk: bytes) -> None:
    """Bytes of an unfinished write behind the last record are no damage."""
    data = with_history(tmp_path)
    segment = largest_file(data)
    content = bytearray(segment.read_bytes())
    end = used_bytes(segment)
    aligned = (end + 511) // 512 * 512
    content[aligned : aligned + len(junk)] = junk
    segment.write_bytes(content)

    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])

    audit = ledger.admin.Audit(admin.AuditRequest())
    ledger.close()
    assert server.stop() == 0
    assert audit.holds
    assert sum(row.count for row in audit.reservation_counts) == 200
