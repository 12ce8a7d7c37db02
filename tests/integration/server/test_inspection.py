"""Looking into a ledger from the command line: then and now, damage, and what can be saved."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.kit import ROOT, Ledger, Server, start_server
from typer.testing import CliRunner

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit_server.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from typer.testing import Result

PATIENCE_SECONDS = 30


def run(*arguments: str) -> Result:
    """Runs the command line to its end, in this process."""
    return CliRunner().invoke(app, arguments)


def facts(result: Result, code: int = 0) -> Any:
    """What a command printed as JSON."""
    assert result.exit_code == code, result.stdout + result.stderr
    return json.loads(result.stdout)


class History:
    """A ledger whose one reservation was held, then sold, then half returned by nobody."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.server: Server = start_server(directory, *flags)
        self.directory = directory / "data"
        ledger = Ledger(self.server.ready["data"], self.server.ready["settlement"])
        self.sale_id = ledger.put_sale(units=5)
        self.reservation_id = ledger.held(self.sale_id, 2)
        self.held_at = self.last_sequence()
        ledger.sold(self.sale_id)
        ledger.close()

    def last_sequence(self) -> int:
        """The last event of the live server."""
        rows = run("events", "--target", self.server.ready["data"], "--json")
        return int(json.loads(rows.stdout.splitlines()[-1])["sequence"])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """A live server with a short history."""
    history = History(tmp_path_factory.mktemp("inspected"))
    yield history
    history.server.process.kill()
    history.server.process.wait(10)


def test_reservation_is_shown_live_and_as_it_was(history: History) -> None:
    """A live server shows the present; the directory shows any earlier sequence too."""
    live = facts(
        run(
            "show",
            "--target",
            history.server.ready["settlement"],
            "--reservation",
            history.reservation_id,
        )
    )
    of = ("show", "--data-directory", str(history.directory))
    reservation = ("--reservation", history.reservation_id)
    then = facts(run(*of, *reservation, "--as-of", str(history.held_at)))
    before = facts(run(*of, *reservation, "--as-of", str(history.held_at - 1)), code=1)
    sale = facts(run(*of, "--sale", history.sale_id, "--as-of", str(history.held_at)))

    assert live["reservation"]["state"] == then["reservation"]["state"] == "STATE_HELD"
    assert then["place"]["as_of_sequence"] == str(history.held_at)
    assert before["result"]["outcome"] == "OUTCOME_UNKNOWN_RESERVATION"
    assert sale["availabilities"][0]["counters"]["held"] == "2"
    assert "sold" not in sale["availabilities"][0]["counters"]


def test_audit_as_of_a_sequence_holds_and_counts_what_was(history: History) -> None:
    """The invariants hold at every sequence, with the counters of that time."""
    for sequence in range(1, history.held_at + 1):
        audit = facts(
            run(
                "audit",
                "--data-directory",
                str(history.directory),
                "--as-of",
                str(sequence),
                "--json",
            )
        )
        assert audit["holds"]
        assert audit["sequence"] <= sequence
    assert audit["reservations"] == {"HELD": 1}
    assert audit["oldest"][0]["reservation_id"] == history.reservation_id
    too_late = run("audit", "--data-directory", str(history.directory), "--as-of", "999999")
    assert too_late.exit_code == 6
    assert "lies behind the journal's end" in too_late.stderr


def test_life_of_a_reservation_names_cause_and_actor(history: History) -> None:
    """Live and from the directory, the same moves."""
    target = history.server.ready["settlement"]
    live = facts(run("explain", history.reservation_id, "--target", target, "--json"))
    text = run("explain", history.reservation_id, "--data-directory", str(history.directory))
    unknown = run("explain", "nobody", "--target", target)

    [move] = live["transitions"]
    assert live["is_complete"]
    assert (move["event"], move["state_to"]) == ("Reserved", "STATE_HELD")
    assert text.stdout.split()[2:6] == ["Reserved", "-", "->", "HELD"]
    assert unknown.exit_code == 1


def test_operators_commands_show_who_and_why(history: History) -> None:
    """Actor and reason are in the journal and on the screen."""
    rows = run("events", "--target", history.server.ready["data"], "--sale", history.sale_id)
    signed = [line for line in rows.stdout.splitlines() if " by " in line]

    assert len(signed) == 3
    assert all(line.rpartition(" by ")[2].count(": ") == 1 for line in signed)


def test_directory_is_followed_while_a_server_writes_it(history: History) -> None:
    """A process that follows the files sees an event that a live server writes."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "lastunit_server", "events", "--follow", "--json"),
            *("--data-directory", str(history.directory), "--sale", "sale-followed"),
            *("--limit", "1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        ledger = Ledger(history.server.ready["data"], history.server.ready["settlement"])
        request = admin.PutSaleRequest(**ledger.by(), sale_id="sale-followed")
        ledger.must(ledger.admin.PutSale(request))
        ledger.close()
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()

    assert process.returncode == 0
    assert json.loads(told)["sale_id"] == "sale-followed"


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "--target", "127.0.0.1:1"),
        ("show", "--data-directory", "x", "--reservation", "a", "--sale", "b"),
        ("audit", "--target", "127.0.0.1:1", "--as-of", "3"),
        ("events", "--data-directory", "x", "--reader", "me"),
        ("verify",),
    ],
)
def test_wrong_arguments_end_with_2(arguments: tuple[str, ...]) -> None:
    """What does not fit together is told, not guessed."""
    assert run(*arguments).exit_code == 2


def test_damage_is_named_and_what_can_be_saved_is_served(tmp_path: Path) -> None:
    """The place is named, the directory left alone, and the copy opens and holds."""
    policy = tmp_path / "admission.toml"
    policy.write_text("version = 1\n", encoding="utf-8")
    history = History(tmp_path, "--admission-file", str(policy))
    history.server.process.kill()
    history.server.process.wait(10)
    directory, copy = str(history.directory), str(tmp_path / "copy")
    assert run("verify", "--data-directory", directory).exit_code == 0
    segment = history.directory / "segment-0000000001.journal"
    content = bytearray(segment.read_bytes())
    used = len(content.rstrip(b"\0"))
    content[used // 2] ^= 1
    segment.write_bytes(content)

    refused = run("audit", "--data-directory", directory)
    text = run("verify", "--data-directory", directory)
    both = facts(
        run("verify", "--data-directory", directory, "--repair-to", copy, "--json"), code=1
    )
    again = run("verify", "--data-directory", directory, "--repair-to", copy)
    saved = facts(run("audit", "--data-directory", copy, "--json"))

    assert refused.exit_code == 6
    assert text.exit_code == 1
    assert f"DAMAGED {segment.name} at" in text.stdout
    assert "can be saved up to sequence" in text.stdout
    assert both["source"]["problems"][0]["file"] == segment.name
    assert both["copy"]["is_whole"]
    assert both["policies"] == {"copied_count": 1, "left_out": []}
    assert saved["holds"]
    assert saved["sequence"] == both["source"]["can_be_saved"]["last_sequence"]
    assert both["source"]["can_be_saved"]["lost_event_count"] > 0
    assert again.exit_code == 7
    assert "empty directory" in again.stderr
    assert segment.read_bytes() == bytes(content)
