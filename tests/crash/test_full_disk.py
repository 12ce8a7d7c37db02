"""A disk that is full for real: a small tmpfs, filled by reservations and by somebody else."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.conformance.kit import (
    SECONDS_MAX,
    Ledger,
    refused,
    reserve_request,
    start_server,
)

from lastunit.admission.v1 import gate_pb2 as gate
from lastunit.stock.v1 import reservation_pb2 as words
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_BYTES = 6 * 1024 * 1024
KEPT_BACK = 1024 * 1024
FLAGS = (
    *("--set", "journal.segment_bytes=262144"),
    *("--set", f"journal.kept_back_bytes={KEPT_BACK}"),
)
LIVED = 60
UNITS = 100_000
BATCH = 100
HOUR = Duration(seconds=3600)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mounts a disk of a few MiB; skips where that is not allowed."""
    target = tmp_path / "disk"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(target)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command; a full disk can't be made")
    if done.returncode:
        pytest.skip(f"mount is not allowed here ({done.stderr.strip()}); run as root")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def fill_by_reserving(ledger: Ledger, sale_id: str) -> tuple[list[str], Any]:
    """Reserves until refused; returns what was reserved, and the refusal."""
    held: list[str] = []
    while len(held) < UNITS:
        requests = [reserve_request(sale_id) for _ in range(BATCH)]
        operations = [stock.Operation(reserve=request) for request in requests]
        [response] = ledger.stock.Exchange(
            iter([stock.ExchangeRequest(operations=operations)]), timeout=30
        )
        for request, reply in zip(requests, response.replies, strict=True):
            if reply.WhichOneof("response") == "fault":
                return held, reply.fault
            assert reply.reserve.result.outcome == 1
            held.append(request.reservation_id)
    raise AssertionError("the disk never filled")


def pay(ledger: Ledger, reservation_id: str) -> None:
    """Pays for one reservation: two commands, each answered OK."""
    attempt_id = f"{reservation_id}:1"
    ledger.must(ledger.begin(reservation_id, attempt_id))
    request_id = f"s-{reservation_id}"
    ledger.must(ledger.settle(reservation_id, attempt_id, 1, request_id=request_id))


def test_a_full_disk_stops_reservations_and_never_settlement(disk: Path) -> None:
    """JOURNAL_SPACE for new ones; those held are paid for; with room again, all goes on."""
    server = start_server(disk, *FLAGS)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=UNITS, reservation_ttl=HOUR)
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (DISK_BYTES // 2))

    held, fault = fill_by_reserving(ledger, sale_id)
    for reservation_id in held[:LIVED]:
        pay(ledger, reservation_id)
    with pytest.raises(grpc.RpcError) as caught:
        ledger.reserve(sale_id)
    ballast.unlink()
    wait_for_room(ledger, sale_id)
    audit = ledger.admin.Audit(admin.AuditRequest())
    counters = ledger.counters(sale_id)
    ledger.close()

    assert (fault.code, fault.reason) == (8, "JOURNAL_SPACE")
    assert refused(caught.value).reason == "JOURNAL_SPACE"
    assert audit.holds, audit.findings
    assert counters["sold"] == LIVED
    assert server.stop() == 0


def test_a_killed_server_opens_on_a_full_disk_and_settles(disk: Path) -> None:
    """With no byte free it opens all the same, refuses new reservations and settles the old."""
    server = start_server(disk, *FLAGS)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=UNITS, reservation_ttl=HOUR)
    held = [ledger.held(sale_id) for _ in range(20)]
    ledger.close()
    server.kill()
    fill_up(disk / "ballast")

    server = start_server(disk, *FLAGS)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    for reservation_id in held:
        pay(ledger, reservation_id)
    states = {ledger.state(one) for one in held}
    ledger.close()
    (disk / "ballast").unlink()

    assert states == {words.STATE_CONFIRMED}
    assert server.stop() == 0


def fill_up(file: Path) -> None:
    """Takes every byte that is left."""
    with file.open("wb", buffering=0) as target:
        try:
            while target.write(b"x" * 65_536):
                pass
        except OSError:
            return


def wait_for_room(ledger: Ledger, sale_id: str) -> None:
    """Waits until reservations are taken again."""
    end = time.monotonic() + SECONDS_MAX
    while True:
        try:
            ledger.must(ledger.reserve(sale_id))
        except grpc.RpcError as error:
            if refused(error).reason != "JOURNAL_SPACE" or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def fill_to_the_last_byte(disk: Path) -> Path:
    """Leaves no byte free; returns the file to remove."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as out:
        for size in (64 * 1024, 4096, 1):
            while True:
                try:
                    out.write(b"x" * size)
                except OSError:
                    break
    return ballast


def set_gate(ledger: Ledger, sale_id: str, hand: gate.GateHand.ValueType, reason: str) -> Any:
    """Lays a hand on a gate."""
    order = gate.SetGateRequest(sale_id=sale_id, hand=hand, actor="tester", reason=reason)
    return ledger.admission.SetGate(order).gate


def test_a_gate_order_that_finds_no_room_is_refused_and_never_comes_back(disk: Path) -> None:
    """The gate stays as it was, no half a line is left, and with room the next order holds."""
    server = start_server(disk, *FLAGS)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1)
    set_gate(ledger, sale_id, gate.GATE_HAND_QUEUEING, "q" * 256)
    book = disk / "data" / "gate-orders.jsonl"
    ballast = fill_to_the_last_byte(disk)
    refusals = []
    # Until the page that the file has already is full.
    while not refusals:
        before = book.read_bytes()
        try:
            set_gate(ledger, sale_id, gate.GATE_HAND_QUEUEING, "f" * 256)
        except grpc.RpcError as error:
            refusals.append(refused(error))
    left = book.read_bytes()
    shown = ledger.admission.GetGate(gate.GetGateRequest(sale_id=sale_id)).gate
    ballast.unlink()
    closed = set_gate(ledger, sale_id, gate.GATE_HAND_CLOSED, "room again")
    ledger.close()
    server.kill()
    again = start_server(disk, *FLAGS)
    ledger = Ledger(again.ready["data"], again.ready["settlement"])
    kept = ledger.admission.GetGate(gate.GetGateRequest(sale_id=sale_id)).gate
    ledger.close()
    again.stop()

    assert refusals[0].reason == "ORDER_NOT_KEPT"
    assert left == before
    assert shown.state == gate.GATE_STATE_QUEUEING
    assert closed.state == gate.GATE_STATE_CLOSED
    assert (kept.order.reason, kept.revision) == ("room again", shown.revision + 1)
