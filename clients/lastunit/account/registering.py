"""One account for one identifier, one answer for one request: Register and RegisterAccounts.

Owns the making of accounts, of their persons and of their first identifiers. Must not know who may
sign up how often. Next: `lastunit.account.resolving`; `_tables` for what is stored.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, moves
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.resolving import Person
from lastunit.account.states import (
    AccountEvent,
    AccountState,
    Entity,
    IdentifierEvent,
    IdentifierState,
    PersonEvent,
)
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.service import sql
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.account.identifiers import BlindIndex
    from lastunit.account.resolving import Directory
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["KeyMismatchError", "Registered", "Registrar", "Registration"]

# What the contract allows in one call, and what one transaction may hold up others by.
REGISTRATIONS_MAX: Final = 1_000

# The row of `facts` that tells which key the digests were made with.
_KEY_CHECK: Final = "blind_index_check"

# Of the one key that there is.
_KEY_VERSION: Final = 1


class KeyMismatchError(Exception):
    """The database was filled under another key, so no identifier would be found in it."""


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
        person_id: The live person behind it; empty after a conflict.
        home_person_id: The person it was made with; empty after a conflict.
        is_created: True if this request made the account.
        is_replayed: True if this request had come before.
        conflict_field: What differs from the first request with this id; empty without one.
    """

    account_id: str
    person_id: str
    home_person_id: str
    is_created: bool
    is_replayed: bool = False
    conflict_field: str = ""


_CONFLICT: Final = Registered("", "", "", is_created=False, conflict_field="identifier")


def _random_id() -> str:
    return secrets.token_hex(10)


class Registrar:
    """Registers accounts.

    Args:
        database: Opened with `_tables.metadata`.
        index: Computes the digests.
        clock: Dates new accounts.
        directory: Is told of new accounts.
        new_id: Gives a new id of 1 to 62 letters and digits each time; a simulation brings one
            that is seeded.

    Raises:
        KeyMismatchError: The database was filled under another key.
    """

    def __init__(
        self,
        database: Database,
        *,
        index: BlindIndex,
        clock: Clock,
        directory: Directory,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        self._database = database
        self._index = index
        self._clock = clock
        self._directory = directory
        self._new_id = new_id
        database.writer.submit(self._check_key).result()

    async def Register(  # noqa: N802 - named by the contract
        self, request: pb.RegisterRequest, _context: object
    ) -> pb.RegisterResponse:
        """Makes an account, or gives the one the identifier has."""
        return (await self._answer([request]))[0]

    async def RegisterAccounts(  # noqa: N802 - named by the contract
        self, request: pb.RegisterAccountsRequest, _context: object
    ) -> pb.RegisterAccountsResponse:
        """Makes many accounts in one transaction."""
        return pb.RegisterAccountsResponse(results=await self._answer(request.registrations))

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
            if answer.is_created and not answer.is_replayed:
                self._directory.remember(
                    answer.account_id,
                    Person(answer.person_id, AccountState.ACTIVE, 1, answer.home_person_id),
                )
        return answers

    async def _answer(self, requests: Any) -> list[pb.RegisterResponse]:
        """Answers each request; one with an impossible identifier is not registered."""
        identifiers = [_identifier(request) for request in requests]
        answers = iter(
            await self.register_many(
                [
                    Registration(request.request_id, identifier)
                    for request, identifier in zip(requests, identifiers, strict=True)
                    if identifier is not None
                ]
            )
        )
        return [
            pb.RegisterResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
            if identifier is None
            else _response(next(answers))
            for identifier in identifiers
        ]

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
        new = _NewRows(now_ms)
        answers: list[Registered] = []
        for registration, digest in zip(registrations, digests, strict=True):
            request_id = registration.request_id
            if request_id in earlier:
                first_digest, first = earlier[request_id]
                answers.append(first if first_digest == digest else _CONFLICT)
                continue
            is_created = digest not in known
            if is_created:
                account_id, person_id = f"a-{self._new_id()}", f"p-{self._new_id()}"
                known[digest] = Registered(account_id, person_id, person_id, is_created=True)
                new.add(registration.identifier, digest, known[digest])
            answer = replace(known[digest], is_created=is_created)
            answers.append(answer)
            earlier[request_id] = (digest, replace(answer, is_replayed=True))
            new.requests.append(
                {
                    "request_id": request_id,
                    "identifier_digest": digest,
                    "account_id": answer.account_id,
                    "is_created": is_created,
                }
            )
        new.insert(connection)
        return answers


class _NewRows:
    """Gathers what one transaction makes."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._persons: list[dict[str, object]] = []
        self._accounts: list[dict[str, object]] = []
        self._identifiers: list[dict[str, object]] = []
        self.requests: list[dict[str, object]] = []

    def add(self, identifier: Identifier, digest: bytes, made: Registered) -> None:
        """Adds an account with its person and its identifier."""
        now_ms = self._now_ms
        self._persons.append({"person_id": made.home_person_id, "create_ms": now_ms})
        self._accounts.append(
            {
                "account_id": made.account_id,
                "person_id": made.person_id,
                "home_person_id": made.home_person_id,
                "lock_reason": "",
                "create_ms": now_ms,
                "version": 1,
            }
        )
        self._identifiers.append(
            {
                "identifier_id": f"i-{made.account_id}",
                "account_id": made.account_id,
                "kind": identifier.kind.value,
                "key_version": _KEY_VERSION,
                "digest": digest,
                "masked": identifier.masked(),
                "create_ms": now_ms,
                "change_ms": now_ms,
            }
        )

    def insert(self, connection: sa.Connection) -> None:
        """Writes all of it."""
        moves.begin(connection, Entity.PERSON, PersonEvent.REGISTER, self._persons)
        moves.begin(connection, Entity.ACCOUNT, AccountEvent.REGISTER, self._accounts)
        moves.begin(connection, Entity.IDENTIFIER, IdentifierEvent.ADD, self._identifiers)
        if self.requests:
            connection.execute(sa.insert(_tables.requests), self.requests)


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
            accounts.c.home_person_id,
        )
        .join_from(requests, accounts)
        .where(requests.c.request_id.in_(request_ids))
    )
    return {
        row.request_id: (
            row.identifier_digest,
            Registered(
                row.account_id,
                row.person_id,
                row.home_person_id,
                is_created=row.is_created,
                is_replayed=True,
            ),
        )
        for row in rows
    }


def _known_accounts(connection: sa.Connection, digests: Sequence[bytes]) -> dict[bytes, Registered]:
    """Returns the accounts of those digests that lead to one."""
    accounts, identifiers = _tables.accounts, _tables.identifiers
    rows = connection.execute(
        sa.select(
            identifiers.c.digest,
            accounts.c.account_id,
            accounts.c.person_id,
            accounts.c.home_person_id,
        )
        .join_from(identifiers, accounts)
        .where(identifiers.c.digest.in_(digests), identifiers.c.state != IdentifierState.RELEASED)
    )
    return {
        row.digest: Registered(row.account_id, row.person_id, row.home_person_id, is_created=False)
        for row in rows
    }


def _identifier(request: pb.RegisterRequest) -> Identifier | None:
    try:
        if request.identifier.HasField("phone"):
            return Identifier.phone(request.identifier.phone)
        return Identifier.email(request.identifier.email)
    except IdentifierError:
        return None


def _response(answer: Registered) -> pb.RegisterResponse:
    return pb.RegisterResponse(
        refusal=pb.REFUSAL_CONFLICT if answer.conflict_field else pb.REFUSAL_UNSPECIFIED,
        replayed=answer.is_replayed,
        conflict_field=answer.conflict_field,
        account_id=answer.account_id,
        person_id=answer.person_id,
        home_person_id=answer.home_person_id,
        created=answer.is_created,
    )
