"""Ends that are asked for lose nothing, and only one process at a time owns a directory."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from tests.conformance.kit import ROOT, serve_command, start_server
from tests.crash.places import Ending
from tests.crash.station import Station

if TYPE_CHECKING:
    from pathlib import Path

STOPS = 20
OWNERS = 20
# More than a stop takes under load; less than the grace time after which work is dropped.
STOP_SECONDS_MAX = 15.0


def stop_under_load(station: Station, *, times: int) -> float:
    """Ends so many lives with SIGTERM under load; returns the longest stop in seconds."""
    longest = 0.0
    for _ in range(times):
        start = time.monotonic()
        station.live(Ending("late_stop", 0.3, grace_seconds=STOP_SECONDS_MAX, waits_for_end=True))
        longest = max(longest, time.monotonic() - start)
    return longest


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    """SIGTERM while six clients work: it ends by itself with status 0, and all is accounted for."""
    station = Station(tmp_path / "data", seed=3, is_small=True)

    stop_under_load(station, times=1)

    assert not station.problems
    assert station.kills == {"clean_stop": 1}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_stops_under_load_lose_nothing(tmp_path: Path) -> None:
    """Twenty in a row on one directory, each within its bound."""
    station = Station(tmp_path / "data", seed=4, is_small=True)

    stop_under_load(station, times=STOPS)
    station.finish()

    assert not station.problems
    assert station.kills == {"clean_stop": STOPS}


def second_owner(directory: Path) -> None:
    """Starts a second server on a directory that has one: refused, naming the owner."""
    result = subprocess.run(
        serve_command(directory), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
    )

    assert result.returncode == 3, result.stderr
    assert "process" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    """Status 3 and the process that owns the directory; the first one goes on."""
    server = start_server(tmp_path)

    second_owner(tmp_path)

    assert server.stop() == 0


@pytest.mark.slow
def test_a_second_owner_is_refused_every_time(tmp_path: Path) -> None:
    """Twenty times, and at once after a kill the directory is free."""
    server = start_server(tmp_path)
    for _ in range(OWNERS):
        second_owner(tmp_path)
    server.kill()

    server = start_server(tmp_path)

    assert server.stop() == 0
