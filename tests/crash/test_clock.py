"""The machine's clock is set under a running server, the process is stopped: nothing lapses."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from google.protobuf.duration_pb2 import Duration
from tests.conformance.kit import Ledger, Server, start_server
from tests.crash.child import DEATHS, start
from tests.crash.shim import FakeClock, NoCompilerError, build

from lastunit.stock.v1 import reservation_pb2 as words
from lastunit.stock.v1.journal_service_pb2 import ReadEventsRequest

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600.0
# Longer than the node takes for a pause, and than the reservations live.
STOP_SECONDS = 5.0
SHORT = Duration(seconds=3)


@pytest.fixture
def clock(tmp_path: Path) -> FakeClock:
    """Returns a clock that the test sets."""
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))
    return FakeClock(tmp_path / "clock")


def begin(directory: Path, clock: FakeClock) -> tuple[Server, Ledger]:
    """Starts a server that sees the test's clock."""
    server = start_server(directory, environment=clock.environment())
    return server, Ledger(server.ready["data"], server.ready["settlement"])


def events(ledger: Ledger) -> list[tuple[float, str]]:
    """Returns time and kind of every event."""
    request = ReadEventsRequest(page_size=4096)
    found = [event for page in ledger.journal.ReadEvents(request) for event in page.events]
    return [(event.time.ToNanoseconds() / 1e9, str(event.WhichOneof("body"))) for event in found]


@pytest.mark.parametrize(
    "steps",
    [
        [HOUR, -HOUR, 0.0],
        pytest.param([HOUR], marks=pytest.mark.slow),
        pytest.param([24 * HOUR], marks=pytest.mark.slow),
        pytest.param([-HOUR], marks=pytest.mark.slow),
    ],
)
def test_a_step_of_the_clock_lapses_nothing(
    tmp_path: Path, clock: FakeClock, steps: list[float]
) -> None:
    """Holds of ten minutes stand after steps of an hour or a day; ledger time never goes back."""
    server, ledger = begin(tmp_path, clock)
    sale_id = ledger.put_sale(units=50)
    held = [ledger.held(sale_id) for _ in range(5)]
    paying, _attempt = ledger.paying(sale_id)

    for seconds in steps:
        clock.set(seconds)
        time.sleep(0.2)
        held.append(ledger.held(sale_id))
    states = {ledger.state(one) for one in held}
    paying_state = ledger.state(paying)
    seen = events(ledger)
    ledger.close()
    assert server.stop() == 0

    assert states == {words.STATE_HELD}
    assert paying_state in {words.STATE_PAYING, words.STATE_OVERDUE}
    times = [at for at, _ in seen]
    assert times == sorted(times)
    assert "released" not in {kind for _, kind in seen}


def test_a_hold_still_ends_after_the_clock_went_back(tmp_path: Path, clock: FakeClock) -> None:
    """A step back delays an expiry and does not suspend it: units are not locked for an hour."""
    server, ledger = begin(tmp_path, clock)
    sale_id = ledger.put_sale(units=5, reservation_ttl=Duration(nanos=600_000_000))
    reservation_id = ledger.held(sale_id)

    clock.set(-HOUR)
    ledger.wait_for_state(reservation_id, words.STATE_RELEASED)
    ledger.close()
    assert server.stop() == 0


def test_a_stopped_process_lapses_nothing_when_it_goes_on(tmp_path: Path) -> None:
    """SIGSTOP for longer than the holds live: they get the time back in which nobody could pay."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=50, reservation_ttl=SHORT)
    held = [ledger.held(sale_id) for _ in range(10)]

    server.process.send_signal(signal.SIGSTOP)
    time.sleep(STOP_SECONDS)
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    states = {ledger.state(one) for one in held}
    kinds = [kind for _, kind in events(ledger)]
    ledger.wait_for_state(held[0], words.STATE_RELEASED)
    ledger.close()
    assert server.stop() == 0

    assert states == {words.STATE_HELD}
    assert kinds.count("outage_credited") == 1
    assert "released" not in kinds


def test_an_outage_is_credited_although_an_opening_was_cut_short(tmp_path: Path) -> None:
    """A crash in the opening after an outage does not make the outage forgotten."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=5, reservation_ttl=SHORT)
    reservation_id = ledger.held(sale_id)
    ledger.close()
    server.kill()

    time.sleep(SHORT.seconds)
    child = start(tmp_path / "data", {}, {"LASTUNIT_FAILPOINT": "during_opening"})
    assert not child.wait_ready()
    assert child.wait() in DEATHS
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    state = ledger.state(reservation_id)
    ledger.close()
    assert server.stop() == 0

    assert state == words.STATE_HELD
