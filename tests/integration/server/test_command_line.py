"""The command line: audit, events, check-config, against a live server and a directory at rest."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.kit import ROOT, Ledger, Server, start_server
from typer.testing import CliRunner

from lastunit_server.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result


def run(*arguments: str) -> Result:
    """Runs the command line to its end, in this process: a start costs more than the command."""
    return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path, str]]:
    """A server with a short history: a sale, one hold, one sold unit."""
    directory = tmp_path_factory.mktemp("history")
    server = start_server(directory)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=5)
    ledger.held(sale_id)
    ledger.sold(sale_id, 2)
    ledger.close()
    yield server, directory / "data", sale_id
    server.process.kill()
    server.process.wait(10)


@pytest.mark.parametrize("form", [("-m", "lastunit_server"), ("-m", "lastunit_server.cli")])
def test_the_command_line_starts_as_a_module(form: tuple[str, ...]) -> None:
    """Both forms run the same commands and keep the exit status."""
    result = subprocess.run(
        [sys.executable, *form, "check-config", "--set", "clock=sundial"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        check=False,
    )

    assert result.returncode == 2
    assert "one of system, manual" in result.stderr


@pytest.mark.parametrize(
    "command", ["serve", "audit", "events", "show", "explain", "verify", "check-config"]
)
def test_each_command_explains_itself(command: str) -> None:
    """--help ends with 0 and says what the command does."""
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert len(result.stdout) > 200


def test_live_and_offline_say_the_same(history: tuple[Server, Path, str]) -> None:
    """The audit and the events of a live server equal those of its directory at rest."""
    server, directory, sale_id = history
    live = run("audit", "--target", server.ready["settlement"], "--json")
    told = run("events", "--target", server.ready["data"], "--json")
    assert server.stop() == 0
    offline = run("audit", "--data-directory", str(directory), "--json")
    read = run("events", "--data-directory", str(directory), "--json")
    part = run(
        "events", "--data-directory", str(directory), "--json", "--from", "3", "--limit", "2"
    )

    assert live.exit_code == offline.exit_code == 0, offline.stderr
    first, second = json.loads(live.stdout), json.loads(offline.stdout)
    assert first["holds"] is second["holds"] is True
    assert first["pools"] == second["pools"]
    assert first["reservations"] == second["reservations"] == {"HELD": 1, "CONFIRMED": 1}
    [pool] = [row for row in second["pools"] if row["sale_id"] == sale_id]
    assert (pool["supplied"], pool["available"], pool["held"], pool["sold"]) == (5, 2, 1, 2)
    events = lines(read)
    assert lines(told) == events[: len(lines(told))]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert lines(part) == events[2:4]


def lines(result: Result) -> list[dict[str, Any]]:
    """Parses JSON lines."""
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_facts_are_shown_to_people_too(history: tuple[Server, Path, str]) -> None:
    """Without --json the same facts are text."""
    _server, directory, sale_id = history
    audit = run("audit", "--data-directory", str(directory))
    events = run("events", "--data-directory", str(directory))

    assert f"{sale_id}/unit/main: supplied=5" in audit.stdout
    assert "every invariant holds" in audit.stdout
    assert "reserved" in events.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("audit",),
        ("audit", "--target", "127.0.0.1:1", "--data-directory", "x"),
        ("events", "--target", "127.0.0.1:1", "--from", "0"),
        ("serve", "--set", "novalue"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...]) -> None:
    """What does not fit together is told, not guessed."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["audit", "events"])
def test_a_target_that_is_not_there_ends_with_6(command: str, tmp_path: Path) -> None:
    """An address without a server and a directory without a journal are told in a sentence."""
    nobody = run(command, "--target", "127.0.0.1:1")
    nothing = run(command, "--data-directory", str(tmp_path / "none"))

    for result in (nobody, nothing):
        assert result.exit_code == 6
        assert "Traceback" not in result.stderr
    assert "127.0.0.1:1: UNAVAILABLE" in nobody.stderr
    assert "is not a directory" in nothing.stderr


def test_check_config_prints_what_would_hold(tmp_path: Path) -> None:
    """Valid files are shown with every default; wrong ones list every problem."""
    policy = tmp_path / "admission.toml"
    policy.write_text("version = 1\n[lanes.reservation]\nrate_per_second = 9\nburst = 3\n")

    fine = run("check-config", "--admission-file", str(policy), "--json")
    text = run("check-config", "--admission-file", str(policy))
    policy.write_text("version = 1\n[lanes.reservation]\nrate_per_second = 9\n[cost]\n")
    wrong = run("check-config", "--admission-file", str(policy), "--json")

    facts = json.loads(fine.stdout)
    assert facts["holds"] is True
    assert facts["admission"]["lanes.reservation.rate_per_second"] == "9"
    assert facts["settings"]["data"]["address"] == "127.0.0.1:7400"
    assert 'admission.lanes.reservation.burst = "3"' in text.stdout
    assert wrong.exit_code == 2
    problems = json.loads(wrong.stdout)["problems"]
    assert {problem["key"] for problem in problems} == {"cost", "lanes.reservation.burst"}
    assert {problem["source"] for problem in problems} == {f"{policy}:2", f"{policy}:4"}
