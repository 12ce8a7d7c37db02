"""Start and stop of a server process, and what it says when it can't start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conformance.kit import (
    ROOT,
    SECONDS_MAX,
    Ledger,
    Server,
    patiently,
    refused,
    serve_command,
    start_server,
)

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server; killed if the test leaves it running."""
    started = start_server(tmp_path)
    yield started
    started.process.kill()
    started.process.wait(SECONDS_MAX)


def opened(server: Server, prefix: str = "") -> Ledger:
    """Connects to a server; the prefix of addresses in its ready line names the front."""
    return Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])


on_both_fronts = pytest.mark.parametrize("prefix", ["", "native_"], ids=["grpcio", "native"])


def run_server(directory: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Runs a server that is expected to end by itself."""
    command = serve_command(directory, *flags)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=ROOT, check=False
    )


def log_lines(server: Server) -> list[dict[str, Any]]:
    """Returns the server's log, line by line; fails on a line that is not JSON."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]


def test_the_ready_line_says_where_and_what(server: Server) -> None:
    """One JSON line with every address, the epoch and the settings that matter."""
    ready = server.ready
    listeners = ("data", "settlement", "native_data", "native_settlement")

    assert ready["event"] == "ready"
    assert ready["service"] == "ledger"
    assert ready["epoch"] >= 1
    assert ready["durability"] == "flushed"
    assert len({ready[name] for name in listeners}) == len(listeners)
    assert ready["process_id"] == server.process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_cleanly_with_exit_0(server: Server, number: signal.Signals) -> None:
    """The server ends with 0, and a restart has everything, in the next epoch."""
    ledger = opened(server)
    sale_id = ledger.put_sale(units=3)
    reservation_id = ledger.held(sale_id)
    ledger.close()

    server.process.send_signal(number)
    assert server.process.wait(30) == 0
    again = start_server(server.log.parent)
    ledger = opened(again)

    assert again.ready["epoch"] > server.ready["epoch"]
    assert ledger.state(reservation_id) == 1
    assert ledger.counters(sale_id) == {"supplied": 3, "available": 2, "held": 1}
    ledger.close()
    assert again.stop() == 0
    assert [line["event"] for line in log_lines(server)][-1] == "stopped"


@on_both_fronts
def test_streams_end_as_draining_and_calls_in_flight_are_answered(
    server: Server, prefix: str
) -> None:
    """A stop ends a follower with UNAVAILABLE, DRAINING, after every event it was owed."""
    ledger = opened(server, prefix)
    sale_id = ledger.put_sale(units=100)
    request = journal.ReadEventsRequest(after_sequence=0, follow=True, page_size=100)
    stream = ledger.journal.ReadEvents(request, timeout=20)
    next(stream)
    ledger.held(sale_id)

    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        for _page in stream:
            pass

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refused(caught.value).reason == "DRAINING"
    assert server.process.wait(30) == 0
    ledger.close()


@on_both_fronts
def test_health_says_not_serving_while_the_server_stops(server: Server, prefix: str) -> None:
    """A watcher hears NOT_SERVING before its connection ends."""
    with grpc.insecure_channel(server.ready[f"{prefix}data"]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

        server.process.send_signal(signal.SIGTERM)

        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert server.process.wait(30) == 0


@on_both_fronts
def test_a_watcher_of_health_does_not_hold_a_stop_up(server: Server, prefix: str) -> None:
    """Watch streams on both listeners stay open for ever; the stop does not wait for them."""
    with (
        grpc.insecure_channel(server.ready[f"{prefix}data"]) as data,
        grpc.insecure_channel(server.ready[f"{prefix}settlement"]) as settlement,
    ):
        watches = [
            health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            for channel in (data, settlement)
        ]
        for watch in watches:
            next(watch)

        assert server.stop(seconds=12) == 0


def unread_exchange(ledger: Ledger) -> Any:
    """Asks for more than the connection's windows take, reads one reply, and lets it get stuck."""
    operation = stock.Operation(
        get_reservation=stock.GetReservationRequest(reservation_id="nobody")
    )
    message = stock.ExchangeRequest(operations=[operation] * 4096)
    unread = ledger.stock.Exchange(iter([message] * 100))
    next(unread)
    # The server is stuck once it decides nothing between two looks but the looks themselves.
    looks = [decided(ledger)]
    while len(looks) < 4 or looks[-1] - looks[-4] > 3:
        time.sleep(0.1)
        looks.append(decided(ledger))
    return unread


def decided(ledger: Ledger) -> int:
    """Returns how many operations the server has decided."""
    request = stock.GetReservationRequest(reservation_id="nobody")
    answer = patiently(lambda: ledger.stock.GetReservation(request))
    return int(answer.place.op_number)


@on_both_fronts
def test_a_second_signal_leaves_at_once(tmp_path: Path, prefix: str) -> None:
    """A stop that waits for a slow reader is cut short with exit status 5; nothing is lost."""
    server = start_server(tmp_path, "--grace-seconds", "60")
    ledger = opened(server, prefix)
    sale_id = ledger.put_sale(units=3)
    reservation_id = ledger.held(sale_id)
    unread = unread_exchange(ledger)

    server.process.send_signal(signal.SIGTERM)
    while not any(line["event"] == "stop_asked" for line in log_lines(server)):
        time.sleep(0.01)
    time.sleep(0.5)
    assert server.process.poll() is None
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(30) == 5
    unread.cancel()
    ledger.close()
    again = start_server(tmp_path)
    ledger = opened(again, prefix)
    assert ledger.state(reservation_id) == 1
    ledger.close()
    assert again.stop() == 0


@on_both_fronts
def test_a_slow_reader_is_cut_off_within_the_grace_time(tmp_path: Path, prefix: str) -> None:
    """A caller that does not read its replies can't keep the server from a clean stop."""
    server = start_server(tmp_path, "--grace-seconds", "2")
    ledger = opened(server, prefix)
    unread = unread_exchange(ledger)

    assert server.stop(seconds=20) == 0
    unread.cancel()
    ledger.close()


def test_a_second_owner_of_a_directory_is_refused(server: Server) -> None:
    """The second server says who owns the directory and ends with exit status 3."""
    second = run_server(server.log.parent)

    assert second.returncode == 3
    assert second.stdout == ""
    assert "in use" in second.stderr or "owner" in second.stderr or "open" in second.stderr
    assert str(server.log.parent / "data") in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_named(server: Server, tmp_path: Path) -> None:
    """The address and the key to change stand in the message; the directory is given back."""
    other = tmp_path / "other"
    other.mkdir()

    taken = run_server(other, "--data-address", server.ready["data"])

    assert taken.returncode == 3
    assert f"data.address = '{server.ready['data']}'" in taken.stderr
    assert "Traceback" not in taken.stderr
    again = start_server(other)
    assert again.stop() == 0


def test_the_same_ports_can_be_taken_again_at_once(server: Server) -> None:
    """After a kill the next server binds the same addresses."""
    server.kill()

    again = start_server(
        server.log.parent,
        *("--data-address", server.ready["data"]),
        *("--settlement-address", server.ready["settlement"]),
        *("--set", f"native.data_address={server.ready['native_data']}"),
        *("--set", f"native.settlement_address={server.ready['native_settlement']}"),
    )

    assert again.ready["native_data"] == server.ready["native_data"]
    assert again.ready["data"] == server.ready["data"]
    assert again.ready["epoch"] > server.ready["epoch"]
    assert again.stop() == 0


def test_flags_beat_the_environment_and_the_file(tmp_path: Path) -> None:
    """One key from each source, seen in the process that serves."""
    file = tmp_path / "server.toml"
    file.write_text('log_level = "error"\n[journal]\ndurability = "memory"\n')
    command = [sys.executable, "-m", "lastunit_server", "check-config", "--json"]
    result = subprocess.run(
        [*command, "--config", str(file), "--set", "journal.durability=written"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
        env={
            "LASTUNIT_SERVER__JOURNAL__DURABILITY": "flushed",
            "LASTUNIT_SERVER__GRACE_SECONDS": "7",
            "PATH": "",
        },
    )

    settings = json.loads(result.stdout)["settings"]
    assert settings["journal"]["durability"] == "written"
    assert settings["grace_seconds"] == 7
    assert settings["log_level"] == "error"


def test_wrong_settings_end_with_2_and_a_sentence(tmp_path: Path) -> None:
    """The source, key, range and what to do; no traceback and nothing created."""
    result = run_server(tmp_path, "--set", "settlement.thread_count=1")

    assert result.returncode == 2
    assert "flag: settlement.thread_count" in result.stderr
    assert "2 to 256" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()


def test_the_port_of_a_stopped_server_is_closed(server: Server) -> None:
    """After exit 0 nothing listens any more."""
    assert server.stop() == 0

    host, _, port = server.ready["data"].rpartition(":")
    with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), 2):
        pass


def test_the_native_listeners_can_be_off(tmp_path: Path) -> None:
    """Without addresses there are none, and the other front serves as before."""
    off = ("--set", "native.data_address=", "--set", "native.settlement_address=")
    server = start_server(tmp_path, *off)
    ledger = opened(server)

    assert (server.ready["native_data"], server.ready["native_settlement"]) == (None, None)
    ledger.put_sale(units=1)
    ledger.close()
    assert server.stop() == 0


def test_a_taken_native_port_is_named(server: Server, tmp_path: Path) -> None:
    """The address and the key to change stand in the message."""
    other = tmp_path / "other"
    other.mkdir()

    taken = run_server(other, "--set", f"native.data_address={server.ready['native_data']}")

    assert taken.returncode == 3
    assert f"native.data_address = '{server.ready['native_data']}'" in taken.stderr
    assert "Traceback" not in taken.stderr
