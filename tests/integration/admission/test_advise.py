"""`advise` from two command lines: numbers with their arithmetic, or why there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.kit import Ledger, Server, start_server

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.admission.v1 import gate_pb2

if TYPE_CHECKING:
    from pathlib import Path


def ask(module: str, words: tuple[str, ...], server: Server) -> tuple[int, str]:
    """Runs a command; returns its status and what it printed."""
    target = ("--target", server.ready["settlement"])
    line = [sys.executable, "-m", module, *words, *target]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def report() -> messages.ReportPressureRequest:
    """What an order service says after a busy hour: ten orders a second, payments of 90 s."""
    said = messages.ReportPressureRequest(
        generation=1,
        work_per_second_milli=30_000,
        work_per_order_milli=3_000,
        pay_count=200,
    )
    said.pay_p99.FromSeconds(90)
    return said


@pytest.mark.parametrize(
    ("module", "words", "empty_status"),
    [("lastunit.cli", ("admission", "advise"), 4), ("lastunit_server", ("advise",), 1)],
)
def test_both_command_lines_show_the_arithmetic(
    tmp_path: Path, module: str, words: tuple[str, ...], empty_status: int
) -> None:
    """Nothing measured: a sentence for each number. A busy hour: Qmax, as text and as JSON."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale = ledger.put_sale(units=1)
    ledger.admission.GetGate(gate_pb2.GetGateRequest(sale_id=sale))
    status, text = ask(module, words, server)

    assert status == empty_status
    assert "the order service has not reported yet" in text

    ledger.admission.ReportPressure(report())
    status, text = ask(module, (*words, "--margin", "30"), server)
    said: dict[str, Any] = json.loads(ask(module, (*words, "--json"), server)[1])

    assert status == 0
    assert f"queue_count_max of sale {sale}: 4800 reservations" in text
    assert "10/s x (600 - 90 - 30) s = 4800" in text
    assert "[gate]\nsettled_per_second = 10\npay_p99_seconds = 90\nmargin_seconds = 30\n" in text
    [queue] = [row for row in said["advices"] if row["key"] == "queue_count_max"]
    assert queue["value"] == 4_500
    ledger.close()


def test_the_gate_keeps_to_what_was_advised(tmp_path: Path) -> None:
    """A server started with the advised settings shows the advised bound, and says so."""
    advised = (
        *("--set", "gate.settled_per_second=10"),
        *("--set", "gate.pay_p99_seconds=90"),
        *("--set", "gate.margin_seconds=30"),
    )
    server = start_server(tmp_path, *advised)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    # Looks at once; a look of its own comes within a tenth of a second.
    ledger.admission.GetGate(gate_pb2.GetGateRequest(sale_id=ledger.put_sale(units=1)))
    ledger.admission.ReportPressure(report())
    answer = ledger.admission.GetAdvice(messages.GetAdviceRequest())
    [queue] = [row for row in answer.advices if row.key == "queue_count_max"]

    assert (queue.value, queue.present) == (4_800, 4_800)
    ledger.close()
