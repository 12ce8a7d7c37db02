"""Accounts and persons, without any transport.

Owns the rules: one account for one identifier, one answer for one request. Must not know gRPC.
Next: `lastunit.account.servicer`; `_tables` for what is stored.

A person is provisional and belongs to one account until persons can be merged; the ledger
counts limits by person already, so nothing changes for it then.
"""

from __future__ import annotations

import enum
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.service import sql
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lastunit.account.identifiers import BlindIndex, Identifier
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = [
    "Account",
    "AccountCore",
    "AccountState",
    "KeyMismatchError",
    "Person",
    "Registered",
    "Registration",
]

# What the contract allows in one call, and what one transaction may hold up others by.
REGISTRATIONS_MAX: Final = 1_000
RESOLVED_MAX: Final = 256

# About 300 bytes each; beyond this the ones not asked for longest are read from the database.
CACHED_PERSONS_MAX: Final = 500_000

# The row of `facts` that tells which key the digests were made with.
_KEY_CHECK: Final = "blind_index_check"


class KeyMismatchError(Exception):
    """The database was filled under another key, so no identifier would be found in it."""


class AccountState(enum.IntEnum):
    """Whether an account may be used; the values are those of the contract."""

    ACTIVE = 1
    LOCKED = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Registration:
    """Asks for an account.

    Attributes:
        request_id: Chosen by the caller; a repeat gets the first answer.
        identifier: What the human is reached by.
    """

    request_id: str
    identifier: Identifier


@dataclass(frozen=True, slots=True)
class Registered:
    """Answers a registration.

    Attributes:
        account_id: The account; empty after a conflict.
        person_id: Who stands behind it; empty after a conflict.
        is_created: True if this request made the account.
        is_replayed: True if this request had come before.
        conflict_field: What differs from the first request with this id; empty without one.
    """

    account_id: str
    person_id: str
    is_created: bool
    is_replayed: bool = False
    conflict_field: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Says who stands behind an account.

    Attributes:
        person_id: Empty if the account is unknown.
        state: Whether the account may be used.
        version: Rises with each change; 0 if the account is unknown.
    """

    person_id: str
    state: AccountState
    version: int


@dataclass(frozen=True, slots=True)
class Account:
    """Shows an account; its identifier only masked.

    Attributes:
        create_ms: Milliseconds since the epoch.
    """

    account_id: str
    person_id: str
    state: AccountState
    masked_identifier: str
    create_ms: int
    version: int


_UNKNOWN: Final = Person(person_id="", state=AccountState.UNKNOWN, version=0)
_CONFLICT: Final = Registered("", "", is_created=False, conflict_field="identifier")


def _random_id() -> str:
    return secrets.token_hex(10)


class AccountCore:
    """Registers accounts and says who stands behind them.

    Args:
        database: Opened with `_tables.metadata`; see `open_database`.
        index: Computes the digests.
        clock: Dates new accounts.
        new_id: Gives a new id of 1 to 62 letters and digits each time; a simulation brings one
            that is seeded.
        cached_persons_max: Persons kept in memory, 1 or more.

    Raises:
        KeyMismatchError: The database was filled under another key.
    """

    def __init__(
        self,
        database: Database,
        *,
        index: BlindIndex,
        clock: Clock,
        new_id: Callable[[], str] = _random_id,
        cached_persons_max: int = CACHED_PERSONS_MAX,
    ) -> None:
        if cached_persons_max < 1:
            raise ValueError(f"cached_persons_max is {cached_persons_max}; it must be 1 or more")
        self._database = database
        self._index = index
        self._clock = clock
        self._new_id = new_id
        self._cached_persons_max = cached_persons_max
        # Only what is durable enters; in order of last use, so that the front can go.
        self._persons: OrderedDict[str, Person] = OrderedDict()
        database.writer.submit(self._check_key).result()

    async def register(self, registration: Registration) -> Registered:
        """Gives the account of an identifier and makes it if there is none."""
        return (await self.register_many([registration]))[0]

    async def register_many(self, registrations: Sequence[Registration]) -> list[Registered]:
        """Does what `register` does for many in one transaction.

        Args:
            registrations: At most 1,000; one that conflicts does not hinder the others.

        Returns:
            One answer for each, in the same order.
        """
        if len(registrations) > REGISTRATIONS_MAX:
            raise ValueError(
                f"{len(registrations)} registrations; at most {REGISTRATIONS_MAX} go at once"
            )
        digests = [self._index.digest(each.identifier) for each in registrations]
        now_ms = self._clock.now_ms()
        answers = await self._database.run(
            lambda connection: self._register(connection, registrations, digests, now_ms),
            lane=Lane.RESERVATION,
        )
        for answer in answers:
            if answer.is_created:
                self._keep(answer.account_id, Person(answer.person_id, AccountState.ACTIVE, 1))
        return answers

    def resolve(self, account_ids: Sequence[str]) -> list[Person]:
        """Says who stands behind accounts; from memory if they were asked for before.

        Args:
            account_ids: At most 256.

        Returns:
            One answer for each, in the same order; UNKNOWN for those that do not exist.
        """
        if len(account_ids) > RESOLVED_MAX:
            raise ValueError(f"{len(account_ids)} accounts; at most {RESOLVED_MAX} go at once")
        found: dict[str, Person] = {}
        missing: set[str] = set()
        for account_id in account_ids:
            person = self._persons.get(account_id)
            if person is None:
                missing.add(account_id)
            else:
                found[account_id] = person
                self._persons.move_to_end(account_id)
        if missing:
            found.update(self._load(missing))
        return [found.get(account_id, _UNKNOWN) for account_id in account_ids]

    def account(self, account_id: str) -> Account | None:
        """Shows one account; None if there is none."""
        table = _tables.accounts
        with self._database.read() as connection:
            row = connection.execute(
                sa.select(
                    table.c.account_id,
                    table.c.person_id,
                    table.c.state,
                    table.c.masked_identifier,
                    table.c.create_ms,
                    table.c.version,
                ).where(table.c.account_id == account_id)
            ).one_or_none()
        if row is None:
            return None
        return Account(
            account_id=row.account_id,
            person_id=row.person_id,
            state=AccountState(row.state),
            masked_identifier=row.masked_identifier,
            create_ms=row.create_ms,
            version=row.version,
        )

    # --- in the writer's thread ---

    def _check_key(self, connection: sa.Connection) -> None:
        table = _tables.facts
        check = self._index.check()
        sql.insert_new(connection, table, {"name": _KEY_CHECK, "value": check})
        found = connection.scalar(sa.select(table.c.value).where(table.c.name == _KEY_CHECK))
        if found != check:
            raise KeyMismatchError(
                "the accounts were registered under another key; "
                "put the key file back that belongs to this database"
            )

    def _register(
        self,
        connection: sa.Connection,
        registrations: Sequence[Registration],
        digests: Sequence[bytes],
        now_ms: int,
    ) -> list[Registered]:
        earlier = _earlier_requests(connection, [each.request_id for each in registrations])
        known = _known_accounts(connection, digests)
        new_accounts: list[dict[str, object]] = []
        new_requests: list[dict[str, object]] = []
        answers: list[Registered] = []
        for registration, digest in zip(registrations, digests, strict=True):
            request_id = registration.request_id
            if request_id in earlier:
                first_digest, first = earlier[request_id]
                answers.append(first if first_digest == digest else _CONFLICT)
                continue
            is_created = digest not in known
            if is_created:
                known[digest] = (f"a-{self._new_id()}", f"p-{self._new_id()}")
                new_accounts.append(_account_row(registration, digest, known[digest], now_ms))
            account_id, person_id = known[digest]
            answer = Registered(account_id, person_id, is_created=is_created)
            answers.append(answer)
            earlier[request_id] = (digest, _replayed(answer))
            new_requests.append(
                {
                    "request_id": request_id,
                    "identifier_digest": digest,
                    "account_id": account_id,
                    "is_created": is_created,
                }
            )
        if new_accounts:
            connection.execute(sa.insert(_tables.accounts), new_accounts)
        if new_requests:
            connection.execute(sa.insert(_tables.requests), new_requests)
        return answers

    # --- the memory of persons ---

    def _load(self, account_ids: Iterable[str]) -> dict[str, Person]:
        table = _tables.accounts
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(
                    table.c.account_id, table.c.person_id, table.c.state, table.c.version
                ).where(table.c.account_id.in_(account_ids))
            ).all()
        loaded = {
            row.account_id: Person(row.person_id, AccountState(row.state), row.version)
            for row in rows
        }
        for account_id, person in loaded.items():
            self._keep(account_id, person)
        return loaded

    def _keep(self, account_id: str, person: Person) -> None:
        self._persons[account_id] = person
        if len(self._persons) > self._cached_persons_max:
            self._persons.popitem(last=False)


def _account_row(
    registration: Registration, digest: bytes, ids: tuple[str, str], now_ms: int
) -> dict[str, object]:
    account_id, person_id = ids
    return {
        "account_id": account_id,
        "person_id": person_id,
        "state": int(AccountState.ACTIVE),
        "identifier_digest": digest,
        "masked_identifier": registration.identifier.masked(),
        "create_ms": now_ms,
        "version": 1,
    }


def _replayed(answer: Registered) -> Registered:
    return Registered(
        answer.account_id, answer.person_id, is_created=answer.is_created, is_replayed=True
    )


def _earlier_requests(
    connection: sa.Connection, request_ids: Sequence[str]
) -> dict[str, tuple[bytes, Registered]]:
    """Returns the digest and the first answer, marked as a repeat, of ids that came before."""
    requests, accounts = _tables.requests, _tables.accounts
    rows = connection.execute(
        sa.select(
            requests.c.request_id,
            requests.c.identifier_digest,
            requests.c.is_created,
            accounts.c.account_id,
            accounts.c.person_id,
        )
        .join_from(requests, accounts)
        .where(requests.c.request_id.in_(request_ids))
    )
    return {
        row.request_id: (
            row.identifier_digest,
            Registered(row.account_id, row.person_id, is_created=row.is_created, is_replayed=True),
        )
        for row in rows
    }


def _known_accounts(
    connection: sa.Connection, digests: Sequence[bytes]
) -> dict[bytes, tuple[str, str]]:
    """Returns account and person of those digests that have one."""
    table = _tables.accounts
    rows = connection.execute(
        sa.select(table.c.identifier_digest, table.c.account_id, table.c.person_id).where(
            table.c.identifier_digest.in_(digests)
        )
    )
    return {row.identifier_digest: (row.account_id, row.person_id) for row in rows}
