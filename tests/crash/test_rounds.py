"""The crash rounds themselves: a few lives, and proof that each kind of finding is found."""

from __future__ import annotations

import random
import shutil
from typing import Any

import pytest
from tests.crash.calls import KINDS, Call
from tests.crash.claims import HELD, Claim
from tests.crash.client import SALE
from tests.crash.places import IN_LOAD, Ending, choose
from tests.crash.rounds import main
from tests.crash.station import Station

from lastunit.stock.v1 import event_pb2, reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock

SEED = 11
LOAD_SECONDS = 0.3
# One of each way to die; the lives follow each other on one directory.
ENDINGS = [
    Ending("random", LOAD_SECONDS),
    Ending("after_write_before_sync", 2.0, failpoint="after_write_before_sync:60"),
    Ending("in_opening", LOAD_SECONDS, openings=("during_opening:1",)),
    Ending("in_stop", LOAD_SECONDS, grace_seconds=0.1),
]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Returns a directory that has lived through all endings, with a copy of it from before."""
    folder = tmp_path_factory.mktemp("station")
    station = Station(folder / "data", seed=SEED, is_small=True)
    for ending in ENDINGS:
        if ending is ENDINGS[-1]:
            shutil.copytree(station.directory, folder / "copy")
        station.live(ending)
    return station


def test_lives_that_end_by_a_kill_lose_double_and_leak_nothing(station: Station) -> None:
    """Killed under load, before a flush, in the opening, in the stop: all is accounted for."""
    assert not station.problems
    assert sum(station.kills.values()) >= len(ENDINGS)
    assert sum(sum(one.kinds.values()) for one in station.clients.values()) > 100

    station.finish()

    assert not station.problems


def kinds_found(station: Station) -> set[str]:
    """Returns which kinds of problems were found, and forgets them."""
    kinds = {kind for kind, _ in station.problems}
    station.problems.clear()
    return kinds


def test_what_must_not_be_is_found(station: Station) -> None:
    """A restored copy is lost and undone, a stranger's reservation is leaked, a repeat doubled."""
    assert not station.problems
    last = station.view.sequence

    # A call that nobody sent, and one event twice.
    stranger = event_pb2.Event(sequence=last + 1, reservation_id="x", sale_id=SALE)
    stranger.reserved.SetInParent()
    station.view.note(stranger, station.clients)
    assert [kind for kind, _ in station.view.problems] == ["leaked"]
    stranger.sequence += 1
    station.view.note(stranger, station.clients)
    assert {kind for kind, _ in station.view.problems} == {"leaked", "doubled"}
    station.view.problems.clear()
    station.view.sequence = last

    # A client that believes to own what it does not, and one whose answer was for another call.
    client = station.clients["c0"]
    client.claims["y"] = claim = Claim("y", SALE, {"a": 1}, is_short=False, state=HELD)
    client.calls["reservation y"] = forged(last)
    station._checked = 0
    station.check_at_rest()
    assert {"lost"} == kinds_found(station)
    station.live(Ending("random", 0.0))
    assert "leaked" in kinds_found(station)
    del client.claims[claim.reservation_id], client.calls["reservation y"]

    shutil.rmtree(station.directory)
    (station.directory.parent / "copy").rename(station.directory)
    station.live(Ending("random", 0.0))
    assert {"undone"} <= kinds_found(station)


def forged(sequence: int) -> Call:
    """Returns a call whose answer names an event that is not its own."""
    answer: Any = stock.ReserveResponse()
    answer.place.sequence = sequence
    lines = [reservation_pb2.Line(sku="a", units=1)]
    return Call(
        KINDS["Reserve"], stock.ReserveRequest(reservation_id="y", lines=lines), first=answer
    )


def test_every_place_comes_up() -> None:
    """In a hundred rounds each named place is armed, and each way of dying chosen."""
    chooser = random.Random(SEED)
    places = {choose(chooser, number).place for number in range(100)}

    ways = {"in_opening", "twice_in_opening", "soon_after_ready", "in_stop", "random"}
    assert {*IN_LOAD, *ways} == places


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_forty_rounds_find_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line runs forty lives and leaves with 0."""
    status = main(["--rounds", "40", "--seed", str(SEED), "--json"])

    assert status == 0, capsys.readouterr().out
