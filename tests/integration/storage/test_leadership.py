"""One process at a time leads, and another does as soon as that one dies or hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from lastunit.service import leadership
from lastunit.service.database import Database
from lastunit.service.leadership import InUseError, Leadership, attending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.02

metadata = sa.MetaData()


@pytest.fixture
def pair(postgres_url: sa.URL) -> Iterator[tuple[Database, Database]]:
    """Two processes' databases."""
    with Database(postgres_url, metadata) as first, Database(postgres_url, metadata) as second:
        yield first, second


def wait_until(is_so: Callable[[], bool]) -> None:
    """Returns once something is so; fails when patience ends."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def started(database: Database, task: str = "work") -> Leadership:
    """Returns one that tries to lead."""
    made = Leadership(database, task, look_seconds=LOOK_SECONDS)
    made.start()
    return made


def test_one_leads_and_the_other_takes_over_at_once(pair: tuple[Database, Database]) -> None:
    """Two tasks are led apart; who stops gives the lead back."""
    first = started(pair[0])
    wait_until(lambda: first.is_leading)
    second, elsewhere = started(pair[1]), started(pair[1], "other")
    wait_until(lambda: elsewhere.is_leading)
    time.sleep(5 * LOOK_SECONDS)

    assert (first.is_leading, second.is_leading) == (True, False)

    first.stop()
    wait_until(lambda: second.is_leading)

    assert not first.is_leading
    for each in (second, elsewhere):
        each.stop()


def test_a_lead_that_the_server_has_ended_is_noticed_before_it_is_given_away(
    pair: tuple[Database, Database], postgres_server: PostgresServer, postgres_url: sa.URL
) -> None:
    """The session ends; there is a leader again, and never two."""
    both = [started(each) for each in pair]
    wait_until(lambda: any(each.is_leading for each in both))
    with postgres_server.connect() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
            "AND granted AND classid = %s",
            (leadership.LEADERS_LOCK,),
        )
    time.sleep(5 * LOOK_SECONDS)
    wait_until(lambda: any(each.is_leading for each in both))
    for each in both:
        each.stop()


def test_a_leader_that_hangs_loses_the_lead(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows by itself before the server gives the lead to the other one."""
    monkeypatch.setattr(leadership, "SESSION_SECONDS", 1.0)
    monkeypatch.setattr(leadership, "_LEAD_SECONDS", 0.7)
    hanging = Leadership(pair[0], "work", look_seconds=LOOK_SECONDS)
    # Its thread never runs again after the first look.
    hanging._look()

    assert hanging.is_leading

    other = started(pair[1])
    overlaps = []
    end = time.monotonic() + PATIENCE_SECONDS
    while not other.is_leading and time.monotonic() < end:
        time.sleep(0.005)
    overlaps.append(hanging.is_leading)

    assert other.is_leading
    assert overlaps == [False]
    hanging.stop()
    other.stop()


async def test_a_step_is_left_to_the_one_that_leads(pair: tuple[Database, Database]) -> None:
    """The same step in two processes runs in one."""
    ran: list[int] = []

    def step(number: int) -> Callable[[], asyncio.Future[int]]:
        def run() -> asyncio.Future[int]:
            ran.append(number)
            done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            done.set_result(1)
            return done

        return run

    first = started(pair[0])
    await asyncio.to_thread(wait_until, lambda: first.is_leading)
    second = started(pair[1])

    assert await first.led(step(1))() == 1
    assert await second.led(step(2))() == 0
    assert ran == [1]
    await asyncio.to_thread(first.stop)
    await asyncio.to_thread(second.stop)


def test_a_killed_process_gives_the_lead_back(
    pair: tuple[Database, Database], postgres_server: PostgresServer, postgres_url: sa.URL
) -> None:
    """SIGKILL of a process that leads: the other one leads within its next looks."""
    program = (
        "import sys, time, sqlalchemy as sa\n"
        "from lastunit.service.database import Database, parse_url\n"
        "from lastunit.service.leadership import Leadership\n"
        "led = Leadership(Database(parse_url(sys.argv[1]), sa.MetaData()), 'work')\n"
        "led.start()\n"
        "while not led.is_leading: time.sleep(0.01)\n"
        "print('leads', flush=True)\n"
        "time.sleep(600)\n"
    )
    url = postgres_server.url(str(postgres_url.database))
    with subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"leads\n"
        other = started(pair[1])
        time.sleep(5 * LOOK_SECONDS)

        assert not other.is_leading

        child.kill()
        wait_until(lambda: other.is_leading)
    other.stop()


def test_who_must_be_alone_is_refused_beside_a_service(
    pair: tuple[Database, Database], tmp_path: Path
) -> None:
    """On both: services attend together, a rebuild alone."""
    path = tmp_path / "order.sqlite"
    with Database(path, metadata) as first, Database(path, metadata) as second:
        for one, two in (pair, (first, second)):
            with attending(one), attending(two):
                pass
            with (
                attending(one),
                pytest.raises(InUseError, match="stop every one"),
                attending(two, is_alone=True),
            ):
                pass
            with (
                attending(one, is_alone=True),
                pytest.raises(InUseError, match="must be alone"),
                attending(two),
            ):
                pass
            with attending(two, is_alone=True):
                pass


def test_a_file_of_sqlite_is_led_by_its_process(tmp_path: Path) -> None:
    """There is nobody else, and nothing is started."""
    with Database(tmp_path / "order.sqlite", metadata) as database:
        led = Leadership(database, "work")
        led.start()

        assert led.is_leading
        led.stop()


def test_a_session_that_says_nothing_is_ended(postgres_url: sa.URL) -> None:
    """What a hanging leader relies on is there: the server has idle_session_timeout."""
    url = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW idle_session_timeout").fetchone()

    assert row is not None
