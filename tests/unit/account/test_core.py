"""One account for one identifier, one answer for one request."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from lastunit.account.core import (
    AccountCore,
    AccountState,
    KeyMismatchError,
    Person,
    Registration,
)
from lastunit.account.identifiers import BlindIndex, Identifier
from lastunit.account.process import open_database
from lastunit.account.v1 import account_service_pb2 as pb
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
def core(database: Database) -> AccountCore:
    """Gives a core over it."""
    return make_core(database)


def make_core(
    database: Database, *, key: bytes = KEY, cached_persons_max: int = 100
) -> AccountCore:
    """Returns a core with numbered ids and a clock that stands still."""
    numbers = itertools.count(1)
    return AccountCore(
        database,
        index=BlindIndex(key),
        clock=SimulatedClock(1_700_000_000_000),
        new_id=lambda: f"{next(numbers)}",
        cached_persons_max=cached_persons_max,
    )


async def test_an_identifier_leads_to_one_account(core: AccountCore) -> None:
    """A second request for a known identifier gets the same account and makes none."""
    first = await core.register(Registration("q-1", ANNA))
    second = await core.register(Registration("q-2", Identifier.email("ANNA@Example.org")))

    assert (first.is_created, second.is_created) == (True, False)
    assert (first.account_id, first.person_id) == (second.account_id, second.person_id)


async def test_a_hundred_callers_with_one_identifier_get_one_account(core: AccountCore) -> None:
    """Concurrent registrations of one human make one account, and one of them says so."""
    answers = await asyncio.gather(
        *(core.register(Registration(f"q-{index}", ANNA)) for index in range(100))
    )

    assert len({answer.account_id for answer in answers}) == 1
    assert [answer.is_created for answer in answers].count(True) == 1


async def test_a_repeated_request_gets_the_first_answer(core: AccountCore) -> None:
    """The repeat of a request that made an account still says that it made it."""
    first = await core.register(Registration("q-1", ANNA))
    again = await core.register(Registration("q-1", ANNA))

    assert (first.account_id, True) == (again.account_id, again.is_created)
    assert (first.is_replayed, again.is_replayed) == (False, True)


async def test_a_request_id_with_another_identifier_is_a_conflict(core: AccountCore) -> None:
    """The same id with other content names what differs and makes nothing."""
    await core.register(Registration("q-1", ANNA))
    conflict = await core.register(Registration("q-1", BERT))
    later = await core.register(Registration("q-2", BERT))

    assert conflict.conflict_field == "identifier"
    assert conflict.account_id == ""
    assert later.is_created


async def test_many_registrations_answer_in_their_order(core: AccountCore) -> None:
    """Repeats, known identifiers and conflicts inside one call are told one by one."""
    answers = await core.register_many(
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


async def test_one_call_takes_a_thousand_and_not_one_more(core: AccountCore) -> None:
    """At the limit a call is served, one past it is refused whole."""
    many = [
        Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
        for index in range(1001)
    ]

    with pytest.raises(ValueError, match="1000"):
        await core.register_many(many)
    assert len(await core.register_many(many[:1000])) == 1000


async def test_a_restart_keeps_accounts_and_answers(place: Path | sa.URL) -> None:
    """What was answered before a restart is answered after it."""
    with open_database(place) as database:
        before = await make_core(database).register(Registration("q-1", ANNA))
    with open_database(place) as database:
        core = make_core(database)
        again = await core.register(Registration("q-1", ANNA))
        resolved = core.resolve([before.account_id, "a-none"])
        account = core.account(before.account_id)

    assert (before.account_id, True) == (again.account_id, again.is_replayed)
    assert resolved == [
        Person(before.person_id, AccountState.ACTIVE, 1),
        Person("", AccountState.UNKNOWN, 0),
    ]
    assert account is not None
    assert account.masked_identifier == "a*****@e*****.org"
    assert account.create_ms == 1_700_000_000_000


async def test_persons_that_fell_out_of_memory_are_read_again(database: Database) -> None:
    """A small memory costs a read, never an answer."""
    core = make_core(database, cached_persons_max=3)
    answers = [
        await core.register(
            Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
        )
        for index in range(20)
    ]

    for answer in answers:
        assert [answer.person_id] == [
            person.person_id for person in core.resolve([answer.account_id])
        ]


async def test_a_call_may_ask_for_more_persons_than_memory_holds(database: Database) -> None:
    """The persons of one call are all answered although they do not all fit."""
    core = make_core(database, cached_persons_max=3)
    answers = await core.register_many(
        [
            Registration(f"q-{index}", Identifier.email(f"buyer-{index}@example.org"))
            for index in range(256)
        ]
    )

    persons = core.resolve([answer.account_id for answer in answers])

    assert [answer.person_id for answer in answers] == [person.person_id for person in persons]


async def test_one_call_resolves_256_and_not_one_more(core: AccountCore) -> None:
    """At the limit a call is served, one past it is refused."""
    assert len(core.resolve(["a-none"] * 256)) == 256
    with pytest.raises(ValueError, match="256"):
        core.resolve(["a-none"] * 257)


async def test_no_identifier_is_in_the_database(path: Path) -> None:
    """Neither the file nor its write-ahead log holds an address or a number."""
    with open_database(path) as database:
        await make_core(database).register_many(
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
        await make_core(database).register(Registration("q-1", ANNA))
    with (
        open_database(place) as database,
        pytest.raises(KeyMismatchError, match="put the key file back"),
    ):
        make_core(database, key=bytes(32))


async def test_the_core_runs_in_a_simulation_without_threads() -> None:
    """In memory and unthreaded, seeded ids make two runs equal."""

    async def run() -> list[str]:
        with open_database(None, is_threaded=False) as database:
            core = make_core(database)
            answers = await asyncio.gather(
                *(
                    core.register(
                        Registration(f"q-{index}", Identifier.email(f"b{index}@example.org"))
                    )
                    for index in range(10)
                )
            )
            return [answer.account_id for answer in answers]

    assert await run() == await run()


def test_states_are_those_of_the_contract() -> None:
    """The core's numbers go onto the wire as they are."""
    wire = {
        name.removeprefix("ACCOUNT_STATE_"): number
        for name, number in pb.AccountState.items()
        if number != 0
    }

    assert wire == {state.name: state.value for state in AccountState}
