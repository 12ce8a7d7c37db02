"""The policy of a running server: put, tried, rolled back, kept, and read from its file.

Each test runs through both fronts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.kit import Ledger, Server, refused, reserve_request, start_server

from lastunit.admission.v1 import admission_service_pb2 as admission

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDE = "version = 1\n"
STRICT = "version = 1\n[lanes.reservation]\nrate_per_second = 0.001\nburst = 1\n"
PATIENCE_SECONDS = 30.0

pytestmark = pytest.mark.parametrize("prefix", ["", "native_"], ids=["grpcio", "native"])


def connect(server: Server, prefix: str) -> Ledger:
    """Connects to both listeners of the front that a prefix names in the ready line."""
    return Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])


def put(ledger: Ledger, document: str, *, expected: int | None = None) -> int:
    """Puts a document; returns the revision."""
    request = admission.PutPolicyRequest(document=document, actor="sre", reason="a storm")
    if expected is not None:
        request.expected_revision = expected
    return ledger.admission.PutPolicy(request).revision


def held(ledger: Ledger) -> admission.GetPolicyResponse:
    """Returns the policy in force."""
    return ledger.admission.GetPolicy(admission.GetPolicyRequest())


def wait_until(what: str, is_there: Callable[[], bool]) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_there():
        assert time.monotonic() < end, f"{what}: did not happen"
        time.sleep(0.02)


def test_a_policy_is_put_tried_rolled_back_and_survives_a_kill(tmp_path: Path, prefix: str) -> None:
    """Every revision keeps who and why; what is wrong is refused with its line."""
    server = start_server(tmp_path)
    ledger = connect(server, prefix)
    assert held(ledger).version == 0
    first = put(ledger, STRICT, expected=0)
    trial = admission.PutPolicyRequest(
        document=WIDE, actor="sre", reason="what if", is_dry_run=True
    )
    tried = ledger.admission.PutPolicy(trial)
    with pytest.raises(grpc.RpcError) as wrong:
        put(ledger, "version = 1\n\n[lanes.fast]\n")
    with pytest.raises(grpc.RpcError) as stale:
        put(ledger, WIDE, expected=0)
    server.kill()
    ledger = connect(start_server(tmp_path), prefix)
    roll = admission.RollBackRequest(revision=0, actor="sre", reason="undo", expected_revision=1)
    back = ledger.admission.RollBack(roll)
    listed = ledger.admission.ListRevisions(admission.ListRevisionsRequest(page_size=10))

    assert first == 1
    assert tried.revision == 1
    changed = {row.key: (row.before, row.after) for row in tried.changes}
    assert changed["lanes.reservation.burst"] == ("1", "5000")
    assert refused(wrong.value).reason == "POLICY_INVALID"
    assert "line 3: lanes.fast" in refused(wrong.value).message
    assert refused(stale.value).reason == "REVISION_MISMATCH"
    assert back.revision == back.in_force_revision == 2
    assert [row.revision for row in listed.revisions] == [2, 1]
    assert [row.reason for row in listed.revisions] == ["undo", "a storm"]
    assert listed.revisions[1].document == STRICT
    assert held(ledger).lanes[2].bucket.rate_per_second == 50_000


def test_a_changed_file_takes_effect_and_a_wrong_one_does_not(tmp_path: Path, prefix: str) -> None:
    """The file is read again while the server runs; calls go on through it."""
    file = tmp_path / "admission.toml"
    file.write_text(WIDE)
    ledger = connect(start_server(tmp_path, "--policy", str(file)), prefix)
    sale_id = ledger.put_sale(units=100)
    assert held(ledger).version == 1
    file.write_text("version = 1\n[lanes.fast]\n")
    file.with_suffix(".new").write_text(STRICT)
    ledger.stock.Reserve(reserve_request(sale_id))
    file.with_suffix(".new").replace(file)
    wait_until("the file is in force", lambda: held(ledger).revision.document == STRICT)
    # The bucket is clamped to one token.
    ledger.stock.Reserve(reserve_request(sale_id))
    with pytest.raises(grpc.RpcError) as shed:
        ledger.stock.Reserve(reserve_request(sale_id))

    assert refused(shed.value).reason == "RATE_LANE"
    assert held(ledger).revision.origin == admission.POLICY_ORIGIN_FILE
    assert held(ledger).version == 2


def test_a_policy_on_trial_is_counted_beside_the_one_in_force(tmp_path: Path, prefix: str) -> None:
    """The trial refuses nothing; the counts say what it would have refused."""
    ledger = connect(start_server(tmp_path), prefix)
    sale_id = ledger.put_sale(units=100)
    ledger.admission.SetShadowPolicy(
        admission.SetShadowPolicyRequest(document=STRICT, actor="sre", reason="a trial")
    )
    for _ in range(5):
        ledger.stock.Reserve(reserve_request(sale_id))
    stats = ledger.admission.GetAdmissionStats(admission.GetAdmissionStatsRequest(page_size=1))

    assert stats.shadow.only_live_admitted_count == 4
    assert held(ledger).shadow.document == STRICT


def test_the_order_service_makes_room_in_the_credit_window(tmp_path: Path, prefix: str) -> None:
    """A full window refuses by its name until a report says what was persisted."""
    ledger = connect(start_server(tmp_path), prefix)
    sale_id = ledger.put_sale(units=100)
    without = ledger.admission.ReportPressure(admission.ReportPressureRequest())
    put(
        ledger,
        "version = 1\n[window]\ncredits_max = 1\nfloor_rate_per_second = 100\nfloor_burst = 100\n",
    )
    report = admission.ReportPressureRequest(generation=1, persisted_count=0)
    ledger.admission.ReportPressure(report)
    ledger.stock.Reserve(reserve_request(sale_id))
    with pytest.raises(grpc.RpcError) as full:
        ledger.stock.Reserve(reserve_request(sale_id))
    time.sleep(0.02)  # Two reports closer than that tell no rate.
    report.persisted_count = 1
    answer = ledger.admission.ReportPressure(report)
    ledger.stock.Reserve(reserve_request(sale_id))

    assert not without.HasField("window")
    assert refused(full.value).reason == "WINDOW_FULL"
    assert answer.window.outstanding_count == 0
