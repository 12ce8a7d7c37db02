"""One account for one identifier, one answer for one request."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from lastunit.account.identifiers import Identifier
from lastunit.account.keys import KeyRing
from lastunit.account.process import open_database
from lastunit.account.registering import Registrar, Registration
from lastunit.account.resolving import Directory, Person
from lastunit.account.states import AccountState
from lastunit.account.vault import FixedKeys, KeyMismatchError, Vault
from lastunit.service.clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from lastunit.service.database import Database

KEY = bytes(range(32))
ANNA = Identifier.email("anna@example.org")
BERT = Identifier.phone("+4930123456")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Gives the place of a database file."""
    return tmp_path / "account.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, path: Path) -> Path | sa.URL:
    """Gives a database of each kind."""
    if request.param == "sqlite":
        return path
    url: sa.URL = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(place: Path | sa.URL) -> Iterator[Database]:
    """Gives an open database."""
    with open_database(place) as opened:
        yield opened


@pytest.fixture
def parts(database: Database) -> Parts:
    """Gives registrar and directory over it."""
    return make_parts(database)


@dataclass
class Parts:
    """Registrar and directory over one database."""

    directory: Directory
    registrar: Registrar


def make_parts(database: Database, *, key: bytes = KEY, cached_persons_max: int = 100) -> Parts:
    """Returns parts with numbered ids and a clock that stands still."""
    numbers = itertools.count(1)
    directory = Directory(database, cached_persons_max=cached_persons_max)
    registrar = Registrar(
        database,
        vault=Vault(FixedKeys(KeyRing.single(key))),
        clock=SimulatedClock(1_700_000_000_000),
        directory=directory,
        new_id=lambda: f"{next(numbers)}",
    )
    return Parts(directory, registrar)


async def test_an_identifier_leads_to_one_account(parts: Parts) -> None:
    """A second request for a known identifier gets the same account and makes none."""
    first = await parts.registrar.register(Registration("q-1", ANNA))
    second = await parts.registrar.register(
        Registration("q-2", Identifier.email("ANNA@Example.org"))
    )

    assert (first.is_created, second.is_created) == (True, False)
    assert (first.account_id, first.person_id) == (second.account_id, second.person_id)


async def test_a_hundred_callers_with_one_identifier_get_one_account(parts: Parts) -> None:
    """Concurrent registrations of one human make one account, and one of them says so."""
    answers = await asyncio.gather(
        *(parts.registrar.register(Registration(f"q-{index}", ANNA)) for index in range(100))
    )

    assert len({answer.account_id for answer in answers}) == 1
    assert [answer.is_created for answer in answers].count(True) == 1


async def test_a_repeated_request_gets_the_first_answer(parts: Parts) -> None:
    """The repeat of a request that made an account still says that it made it."""
    first = await parts.registrar.register(Registration("q-1", ANNA))
    again = await parts.registrar.register(Registration("q-1", ANNA))

    assert (first.account_id, True) == (again.account_id, again.is_created)
    assert (first.is_replayed, again.is_replayed) == (False, True)


async def test_a_request_id_with_another_identifier_is_a_conflict(parts: Parts) -> None:
    """The same id with other content names what differs and makes nothing."""
    await parts.registrar.register(Registration("q-1", ANNA))
    conflict = await parts.registrar.register(Registration("q-1", BERT))
    later = await parts.registrar.register(Registration("q-2", BERT))

    assert conflict.conflict_field == "identifier"
    assert conflict.account_id == ""
    assert later.is_created


async def test_many_registrations_answer_in_their_order(parts: Parts) -> None:
    """Repeats, known identifiers and conflicts inside one call are told one by one."""
    answers = await parts.registrar.register_many(
        [
            Registration("q-1", ANNA),
            Registration("q-2", BERT),
            Registration("q-1", ANNA),
            Registration("q-3", ANNA),
            Registration("q-2", ANNA),
        ]
    )

    anna, bert, repeat, known, conflict = answers
    assert anna.is_created
    assert bert.is_created
    assert repeat.is_replayed
    assert (known.is_created, known.account_id) == (False, anna.account_id)
    assert conflict.conflict_field == "identifier"


async def test_one_call_takes_a_thousand_and_not_one_more(parts: Parts) -> None:
    """At the limit a call is served, one past it is refused whole."""
    many = [
        Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
        for index in range(1001)
    ]

    with pytest.raises(ValueError, match="1000"):
        await parts.registrar.register_many(many)
    assert len(await parts.registrar.register_many(many[:1000])) == 1000


async def test_a_restart_keeps_accounts_and_answers(place: Path | sa.URL) -> None:
    """What was answered before a restart is answered after it."""
    with open_database(place) as database:
        before = await make_parts(database).registrar.register(Registration("q-1", ANNA))
    with open_database(place) as database:
        parts = make_parts(database)
        again = await parts.registrar.register(Registration("q-1", ANNA))
        resolved = parts.directory.resolve([before.account_id, "a-none"])
        account = parts.directory.account(before.account_id)

    assert (before.account_id, True) == (again.account_id, again.is_replayed)
    assert resolved == [
        Person(before.person_id, AccountState.ACTIVE, 1, before.person_id),
        Person("", AccountState.NONE, 0, ""),
    ]
    assert account is not None
    assert account.masked_identifier == "a*****@e*****.org"
    assert account.create_time.ToMilliseconds() == 1_700_000_000_000


async def test_persons_that_fell_out_of_memory_are_read_again(database: Database) -> None:
    """A small memory costs a read, never an answer."""
    parts = make_parts(database, cached_persons_max=3)
    answers = [
        await parts.registrar.register(
            Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
        )
        for index in range(20)
    ]

    for answer in answers:
        assert [answer.person_id] == [
            person.person_id for person in parts.directory.resolve([answer.account_id])
        ]


async def test_a_call_may_ask_for_more_persons_than_memory_holds(database: Database) -> None:
    """The persons of one call are all answered although they do not all fit."""
    parts = make_parts(database, cached_persons_max=3)
    answers = await parts.registrar.register_many(
        [
            Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
            for index in range(256)
        ]
    )

    persons = parts.directory.resolve([answer.account_id for answer in answers])

    assert [answer.person_id for answer in answers] == [person.person_id for person in persons]


async def test_one_call_resolves_256_and_not_one_more(parts: Parts) -> None:
    """At the limit a call is served, one past it is refused."""
    assert len(parts.directory.resolve(["a-none"] * 256)) == 256
    with pytest.raises(ValueError, match="256"):
        parts.directory.resolve(["a-none"] * 257)


async def test_no_identifier_is_in_the_database(path: Path) -> None:
    """Neither the file nor its write-ahead log holds an address or a number."""
    with open_database(path) as database:
        await make_parts(database).registrar.register_many(
            [
                Registration("q-1", Identifier.email("secret.person@example.org")),
                Registration("q-2", Identifier.phone("+491701234567")),
            ]
        )
        written = b"".join(file.read_bytes() for file in path.parent.iterdir())
    written += b"".join(file.read_bytes() for file in path.parent.iterdir())

    assert b"secret.person" not in written
    assert b"secret.person@example.org".replace(b"@", b"") not in written
    assert b"1701234567" not in written
    assert b"s*****@e*****.org" in written


async def test_another_key_is_refused_at_the_start(place: Path | sa.URL) -> None:
    """Under a wrong key nobody would be found, so the service does not start."""
    with open_database(place) as database:
        await make_parts(database).registrar.register(Registration("q-1", ANNA))
    with (
        open_database(place) as database,
        pytest.raises(KeyMismatchError, match="put the key file back"),
    ):
        make_parts(database, key=bytes(32))


async def test_the_core_runs_in_a_simulation_without_threads() -> None:
    """In memory and unthreaded, seeded ids make two runs equal."""

    async def run() -> list[str]:
        with open_database(None, is_threaded=False) as database:
            parts = make_parts(database)
            answers = await asyncio.gather(
                *(
                    parts.registrar.register(
                        Registration(f"q-{index}", Identifier.email(f"b{index}@example.org"))
                    )
                    for index in range(10)
                )
            )
            return [answer.account_id for answer in answers]

    assert await run() == await run()
