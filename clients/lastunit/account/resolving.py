"""Says who stands behind accounts: ResolvePerson and GetAccount.

Owns the memory of answers. Must not write. Next: `lastunit.account.registering`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.states import AccountState, IdentifierState
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lastunit.service.database import Database

__all__ = ["WIRE_STATES", "Directory", "Person", "account_message"]

# What the contract allows in one call.
RESOLVED_MAX: Final = 256

# About 300 bytes each; beyond this the ones not asked for longest are read from the database.
CACHED_PERSONS_MAX: Final = 500_000


@dataclass(frozen=True, slots=True)
class Person:
    """Says who stands behind an account.

    Attributes:
        person_id: The live person; empty if the account is unknown.
        state: Whether the account may be used; NONE if it is unknown.
        version: Rises with each change; 0 if the account is unknown.
        home_person_id: The person it was made with; empty if the account is unknown.
    """

    person_id: str
    state: AccountState
    version: int
    home_person_id: str


_UNKNOWN: Final = Person(person_id="", state=AccountState.NONE, version=0, home_person_id="")

WIRE_STATES: Final = {
    AccountState.NONE: pb.ACCOUNT_STATE_UNKNOWN,
    AccountState.ACTIVE: pb.ACCOUNT_STATE_ACTIVE,
    AccountState.LOCKED: pb.ACCOUNT_STATE_LOCKED,
    AccountState.CLOSED: pb.ACCOUNT_STATE_CLOSED,
}


class Directory:
    """Answers who stands behind accounts; from memory if they were asked for before.

    Args:
        database: Opened with `_tables.metadata`.
        cached_persons_max: Persons kept in memory, 1 or more.

    Attributes:
        hit_count: Answers that were given from memory.
        miss_count: Answers that were read from the database, or that there are none of.
    """

    def __init__(self, database: Database, *, cached_persons_max: int = CACHED_PERSONS_MAX) -> None:
        if cached_persons_max < 1:
            raise ValueError(f"cached_persons_max is {cached_persons_max}; it must be 1 or more")
        self._database = database
        self._cached_persons_max = cached_persons_max
        # Only what is durable enters; in order of last use, so that the front can go.
        self._persons: OrderedDict[str, Person] = OrderedDict()
        self.hit_count = 0
        self.miss_count = 0

    def resolve(self, account_ids: Sequence[str]) -> list[Person]:
        """Says who stands behind accounts.

        Args:
            account_ids: At most 256.

        Returns:
            One answer for each, in the same order; one in state NONE for those that do not exist.
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
        self.hit_count += len(account_ids) - len(missing)
        self.miss_count += len(missing)
        if missing:
            found.update(self._load(missing))
        return [found.get(account_id, _UNKNOWN) for account_id in account_ids]

    def remember(self, account_id: str, person: Person) -> None:
        """Keeps an answer that is durable."""
        self._persons[account_id] = person
        if len(self._persons) > self._cached_persons_max:
            self._persons.popitem(last=False)

    def forget(self, account_ids: Iterable[str]) -> None:
        """Drops answers that a person event has made outdated."""
        for account_id in account_ids:
            self._persons.pop(account_id, None)

    def account(self, account_id: str) -> pb.Account | None:
        """Shows one account, its identifier masked; None if there is none."""
        with self._database.read() as connection:
            return account_message(connection, account_id)

    async def ResolvePerson(  # noqa: N802 - named by the contract
        self, request: pb.ResolvePersonRequest, _context: object
    ) -> pb.ResolvePersonResponse:
        """Says who stands behind accounts."""
        persons = self.resolve(request.account_ids)
        return pb.ResolvePersonResponse(
            persons=[
                pb.ResolvedPerson(
                    account_id=account_id,
                    person_id=person.person_id,
                    state=WIRE_STATES[person.state],
                    version=person.version,
                    home_person_id=person.home_person_id,
                )
                for account_id, person in zip(request.account_ids, persons, strict=True)
            ]
        )

    async def GetAccount(  # noqa: N802 - named by the contract
        self, request: pb.GetAccountRequest, _context: object
    ) -> pb.GetAccountResponse:
        """Shows one account, its identifier masked."""
        account = self.account(request.account_id)
        if account is None:
            return pb.GetAccountResponse(refusal=pb.REFUSAL_UNKNOWN_ACCOUNT)
        return pb.GetAccountResponse(account=account)

    def _load(self, account_ids: Iterable[str]) -> dict[str, Person]:
        table = _tables.accounts
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(
                    table.c.account_id,
                    table.c.person_id,
                    table.c.state,
                    table.c.version,
                    table.c.home_person_id,
                ).where(table.c.account_id.in_(account_ids))
            ).all()
        loaded = {
            row.account_id: Person(
                row.person_id, AccountState(row.state), row.version, row.home_person_id
            )
            for row in rows
        }
        for account_id, person in loaded.items():
            self.remember(account_id, person)
        return loaded


def account_message(connection: sa.Connection, account_id: str) -> pb.Account | None:
    """Returns what may be shown of an account; None if there is none."""
    accounts, identifiers = _tables.accounts, _tables.identifiers
    row = connection.execute(
        sa.select(accounts).where(accounts.c.account_id == account_id)
    ).one_or_none()
    if row is None:
        return None
    masked = connection.scalar(
        sa.select(identifiers.c.masked)
        .where(
            identifiers.c.account_id == account_id,
            identifiers.c.state != IdentifierState.RELEASED,
        )
        .order_by(identifiers.c.create_ms, identifiers.c.identifier_id)
        .limit(1)
    )
    shown = pb.Account(
        account_id=row.account_id,
        person_id=row.person_id,
        state=WIRE_STATES[AccountState(row.state)],
        masked_identifier=masked or "",
        version=row.version,
        home_person_id=row.home_person_id,
    )
    if row.lock_reason:
        shown.lock_reason = pb.LockReason.Value(f"LOCK_REASON_{row.lock_reason}")
    shown.create_time.FromMilliseconds(row.create_ms)
    if row.unlock_ms is not None:
        shown.unlock_time.FromMilliseconds(row.unlock_ms)
    return shown
