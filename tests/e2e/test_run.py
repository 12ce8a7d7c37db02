"""The main job, small: real services, real buyers, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.e2e.small_sale import command, left_running, run_to_end, write_sale

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def sale_file(tmp_path: Path) -> Path:
    """A sale that is over in seconds."""
    return write_sale(tmp_path)


def _wait_until_nothing_is_left(directory: Path) -> list[str]:
    """Waits a little for the kernel to tidy up; gives what is left after that."""
    for _ in range(100):
        if not left_running(directory):
            return []
        time.sleep(0.1)
    return left_running(directory)


def test_a_small_sale_sells_everything_once(sale_file: Path, tmp_path: Path) -> None:
    """Every unit is sold, every check holds, the page is written and nothing keeps running."""
    directory = tmp_path / "data"

    status, result = run_to_end(command(sale_file, directory))

    assert status == 0, result
    assert result["sold"] == 20
    assert result["oversold"] == 0
    assert result["unsold_with_waiting_buyers"] == 0
    assert result["paid_without_unit_or_refund"] == 0
    assert result["conservation_holds"] is True
    assert result["buyers"] == 100
    assert sum(result["endings"].values()) == 100
    assert result["replays"] == result["acknowledged"]
    assert Path(result["html"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert _wait_until_nothing_is_left(directory) == []


def test_a_killed_ledger_loses_nothing(sale_file: Path, tmp_path: Path) -> None:
    """Kill -9 of the ledger in the middle: each acknowledged order is there, each id once."""
    directory = tmp_path / "data"

    status, result = run_to_end(command(sale_file, directory, "--kill-ledger-after", "2"))

    assert status == 0, result
    assert result["ledger_restarts"] == 1
    assert result["sold"] == 20
    assert result["acknowledged"] >= 20
    assert result["acknowledged_lost"] == 0
    assert result["effects_twice"] == 0
    assert result["checks"]["every acknowledged order is in the ledger"] is True
    assert result["checks"]["every repeated id had one effect"] is True
    assert _wait_until_nothing_is_left(directory) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(sale_file: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle of a sale ends every service and says so by its status."""
    directory = tmp_path / "data"
    with subprocess.Popen(
        command(sale_file, directory), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready after"):
                break
        assert len(left_running(directory)) >= 6
        process.send_signal(number)
        process.stdout.read()
        status = process.wait(timeout=60)

    assert status == 130
    assert _wait_until_nothing_is_left(directory) == []


def test_children_die_with_a_killed_parent(sale_file: Path, tmp_path: Path) -> None:
    """Even kill -9 of the main job leaves no server behind."""
    directory = tmp_path / "data"
    with subprocess.Popen(
        command(sale_file, directory), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready after"):
                break
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)

    assert _wait_until_nothing_is_left(directory) == []


def test_a_service_that_cannot_start_is_named_with_its_log(sale_file: Path, tmp_path: Path) -> None:
    """A directory that cannot be used ends the run with the failing service's last lines."""
    directory = tmp_path / "data"
    directory.mkdir()
    (directory / "kept.txt").write_text("not ours", encoding="utf-8")

    done = subprocess.run(
        command(sale_file, directory), capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (directory / "kept.txt").exists()
