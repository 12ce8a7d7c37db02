"""A process that dies at its worst moments: what it acknowledged is there after a restart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server import _native

from . import kit

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "failpoint",
    [
        "after_append_before_write:40",
        "after_write_before_sync:60",
        "after_sync_before_reply:40",
        "during_snapshot",
    ],
)
def test_process_that_dies_there_loses_nothing_it_acknowledged(
    tmp_path: Path, failpoint: str
) -> None:
    """Every line the child printed is a reservation that a repeat finds, with its sequence."""
    script = Path(__file__).with_name("failing_child.py")
    environment = os.environ | {"LASTUNIT_FAILPOINT": failpoint, "PYTHONPATH": str(ROOT)}
    child = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    acknowledged = [line.split() for line in child.stdout.splitlines()]
    node = _native.Node(kit.settings(tmp_path))
    repeats = [
        kit.ask(node, "Reserve", kit.reserve(name), stock.ReserveResponse)
        for name, _ in acknowledged
    ]
    audit = kit.ask(node, "Audit", admin.AuditRequest(), admin.AuditResponse)
    node.close()

    assert child.returncode < 0, child.stderr
    assert acknowledged
    assert all(repeat.result.replayed for repeat in repeats)
    assert [str(repeat.place.sequence) for repeat in repeats] == [it[1] for it in acknowledged]
    assert audit.holds
