"""The words of `lastunit admission` that show and change the policy, as an operator runs them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.conformance.kit import Server, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NARROW = "version = 1\n[lanes.reservation]\nrate_per_second = 9\nburst = 3\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server with the policy that is built in."""
    server = start_server(tmp_path_factory.mktemp("policy"), "--durability", "memory")
    yield server
    server.stop()


def run(target: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a word of `lastunit admission` against a target."""
    command = [sys.executable, "-m", "lastunit.cli", "admission", *words, "--target", target]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_policy_is_tried_put_listed_and_rolled_back(server: Server, tmp_path: Path) -> None:
    """Each word says what it did, and the history who and why."""
    target = server.ready["settlement"]
    file = tmp_path / "policy.toml"
    file.write_text(NARROW)
    tried = run(target, "dry-run", str(file))
    put = run(target, "put", str(file), "--reason", "a storm", "--actor", "sre", "--expect", "0")
    stale = run(target, "put", str(file), "--reason", "late", "--expect", "0", "--actor", "other")
    shown = run(target, "show")
    back = run(target, "rollback", "0", "--reason", "over", "--actor", "sre")
    listed = run(target, "history")

    change = "lanes.reservation.rate_per_second: 50000 -> 9"
    assert change in tried.stdout
    assert "nothing was changed" in tried.stdout
    assert change in put.stdout
    assert "revision 1 is in force" in put.stdout
    assert stale.returncode == 3
    assert "somebody changed the policy" in stale.stderr
    assert NARROW.strip() in shown.stdout
    assert "a storm" in shown.stdout
    assert "revision 2" in back.stdout
    lines = listed.stdout.splitlines()
    assert lines[0].startswith("* revision 2")
    assert "sre" in lines[1]
    assert lines[1].endswith("a storm")


def test_a_mistake_is_told_with_its_line_and_reason(server: Server, tmp_path: Path) -> None:
    """All of them at once, whatever the word; a server that is not there is told otherwise."""
    file = tmp_path / "policy.toml"
    file.write_text("version = 1\n[lanes.fast]\n\n[costs]\nReserv = 1\n")
    for words in (["dry-run", str(file)], ["put", str(file), "--reason", "hurry"]):
        wrong = run(server.ready["settlement"], *words)

        assert wrong.returncode == 3
        assert "line 2: lanes.fast" in wrong.stderr
        assert "line 5: costs.Reserv" in wrong.stderr
        assert "Traceback" not in wrong.stderr
    missing = run(server.ready["settlement"], "dry-run", str(tmp_path / "none.toml"))
    assert (missing.returncode, "can't be read" in missing.stderr) == (1, True)
