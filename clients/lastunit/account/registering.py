"""One account for one identifier, one answer for one request: Register and RegisterAccounts.

Owns the making of accounts, of their persons and of their first identifiers. Must not know who may
sign up how often. Next: `lastunit.account.resolving`; `_tables` for what is stored.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, codes, identifier_rows, moves, recycling
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.moves import Cause
from lastunit.account.proving import refusal_of
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
from lastunit.account.vault import digests_of
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.account.gate import Bucket
    from lastunit.account.keys import KeyRing
    from lastunit.account.resolving import Directory
    from lastunit.account.vault import Vault
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["Registered", "Registrar", "Registration"]

# What the contract allows in one call, and what one transaction may hold up others by.
REGISTRATIONS_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class Registration:
    """Asks for an account.

    Attributes:
        request_id: Chosen by the caller; a repeat gets the first answer.
        identifier: What the human is reached by.
        proof: The code that was sent to it; ignored where none is asked for.
        is_recycled: The caller says that the account behind it is somebody else's.
    """

    request_id: str
    identifier: Identifier
    proof: str = ""
    is_recycled: bool = False


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
        refusal: Why there is no account; unspecified if there is one.
        release_ms: When a recycled identifier is free, in milliseconds since the epoch.
    """

    account_id: str
    person_id: str
    home_person_id: str
    is_created: bool
    is_replayed: bool = False
    conflict_field: str = ""
    refusal: pb.Refusal.ValueType = pb.REFUSAL_UNSPECIFIED
    release_ms: int | None = None


def _refused(refusal: pb.Refusal.ValueType, release_ms: int | None = None) -> Registered:
    return Registered("", "", "", is_created=False, refusal=refusal, release_ms=release_ms)


_CONFLICT: Final = replace(_refused(pb.REFUSAL_CONFLICT), conflict_field="identifier")


def _random_id() -> str:
    return secrets.token_hex(10)


class Registrar:
    """Registers accounts.

    Args:
        database: Opened with `_tables.metadata`.
        vault: Lends the keys.
        clock: Dates new accounts.
        directory: Is told of new accounts.
        bucket: Lets sign-ups in; None for all of them.
        is_proof_asked: False registers whoever asks, for simulations and measurements.
        new_id: Gives a new id of 1 to 60 letters and digits each time; a simulation brings one
            that is seeded.

    Raises:
        KeyMismatchError: The database was filled under another key.
    """

    def __init__(
        self,
        database: Database,
        *,
        vault: Vault,
        clock: Clock,
        directory: Directory,
        bucket: Bucket | None = None,
        is_proof_asked: bool = False,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock
        self._directory = directory
        self._bucket = bucket
        self._is_proof_asked = is_proof_asked
        self._new_id = new_id
        database.writer.submit(vault.ring).result()

    async def Register(  # noqa: N802 - named by the contract
        self, request: pb.RegisterRequest, _context: object
    ) -> pb.RegisterResponse:
        """Makes an account, or gives the one the identifier has."""
        if self._bucket is None:
            return (await self._answer([request]))[0]
        with self._bucket.entered():
            return (await self._answer([request]))[0]

    async def RegisterAccounts(  # noqa: N802 - named by the contract
        self, request: pb.RegisterAccountsRequest, _context: object
    ) -> pb.RegisterAccountsResponse:
        """Makes many accounts in one transaction."""
        registrations = request.registrations
        # Where nobody's word is checked, whoever brings a thousand at once is a simulation.
        if self._bucket is None or not self._is_proof_asked:
            return pb.RegisterAccountsResponse(results=await self._answer(registrations))
        with self._bucket.entered(len(registrations)):
            return pb.RegisterAccountsResponse(results=await self._answer(registrations))

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
        now_ms = self._clock.now_ms()
        answers = await self._database.run(
            lambda connection: self._register(connection, registrations, now_ms),
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
                    Registration(request.request_id, identifier, request.proof, request.is_recycled)
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

    def _register(
        self, connection: sa.Connection, registrations: Sequence[Registration], now_ms: int
    ) -> list[Registered]:
        ring = self._vault.ring(connection)
        earlier = _earlier_requests(connection, [each.request_id for each in registrations])
        digests = [
            [each.digest for each in digests_of(ring, registration.identifier)]
            for registration in registrations
        ]
        known = _known_accounts(connection, [each for group in digests for each in group])
        new = _NewRows(ring, now_ms, is_proved=self._is_proof_asked)
        answers: list[Registered] = []
        for registration, group in zip(registrations, digests, strict=True):
            request_id = registration.request_id
            if request_id in earlier:
                first_digest, first = earlier[request_id]
                is_equal = first_digest in group
                answers.append(replace(first, is_replayed=True) if is_equal else _CONFLICT)
                continue
            refused = self._refusal(connection, ring, registration, now_ms)
            if refused is not None:
                answers.append(refused)
                continue
            found = next((known[digest] for digest in group if digest in known), None)
            if found is None:
                account_id, person_id = f"a-{self._new_id()}", f"p-{self._new_id()}"
                found = Registered(account_id, person_id, person_id, is_created=True)
                known[group[0]] = found
                new.add(registration.identifier, group[0], found)
            elif found.is_created:
                found = replace(found, is_created=False)
            answers.append(found)
            earlier[request_id] = (group[0], found)
            new.note_request(request_id, group[0], found)
        new.insert(connection)
        return answers

    def _refusal(
        self, connection: sa.Connection, ring: KeyRing, registration: Registration, now_ms: int
    ) -> Registered | None:
        """Checks the proof; says why there is no account, or None if there may be one."""
        if not self._is_proof_asked:
            # Without a proof nobody takes an identifier from an account.
            return _refused(pb.REFUSAL_PROOF_BAD) if registration.is_recycled else None
        identifier = registration.identifier
        if identifier.can_get_messages:
            verdict = codes.check(
                connection,
                ring,
                identifier,
                pb.CODE_PURPOSE_SIGN_IN,
                registration.proof,
                now_ms=now_ms,
                is_used_up=False,
            )
            if verdict is not codes.Verdict.GOOD:
                return _refused(refusal_of(verdict))
        row = identifier_rows.find(connection, ring, identifier)
        if row is None:
            return None
        cause = Cause(registration.request_id, now_ms)
        if not registration.is_recycled:
            identifier_rows.note_proof(connection, ring, row, identifier, cause)
            return None
        release_ms = recycling.dispute(connection, row, cause)
        if release_ms is None:
            return _refused(pb.REFUSAL_IDENTIFIER_NOT_DORMANT)
        return _refused(pb.REFUSAL_WAITING, release_ms)


class _NewRows:
    """Gathers what one transaction makes."""

    def __init__(self, ring: KeyRing, now_ms: int, *, is_proved: bool) -> None:
        self._ring = ring
        self._now_ms = now_ms
        self._is_proved = is_proved
        self._persons: list[dict[str, object]] = []
        self._accounts: list[dict[str, object]] = []
        self._identifiers: list[dict[str, object]] = []
        self._requests: list[dict[str, object]] = []

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
            identifier_rows.new_row(
                self._ring,
                identifier,
                digest,
                identifier_id=f"i-{made.account_id}",
                account_id=made.account_id,
                now_ms=now_ms,
                is_proved=self._is_proved,
            )
        )

    def note_request(self, request_id: str, digest: bytes, answer: Registered) -> None:
        """Adds what a repeat of the request is answered."""
        self._requests.append(
            {
                "request_id": request_id,
                "identifier_digest": digest,
                "account_id": answer.account_id,
                "is_created": answer.is_created,
            }
        )

    def insert(self, connection: sa.Connection) -> None:
        """Writes all of it."""
        moves.begin(connection, Entity.PERSON, PersonEvent.REGISTER, self._persons)
        moves.begin(connection, Entity.ACCOUNT, AccountEvent.REGISTER, self._accounts)
        event = IdentifierEvent.PROVE if self._is_proved else IdentifierEvent.ADD
        moves.begin(connection, Entity.IDENTIFIER, event, self._identifiers)
        if self._requests:
            connection.execute(sa.insert(_tables.requests), self._requests)


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
        return Identifier.of(request.identifier)
    except IdentifierError:
        return None


def _response(answer: Registered) -> pb.RegisterResponse:
    response = pb.RegisterResponse(
        refusal=answer.refusal,
        replayed=answer.is_replayed,
        conflict_field=answer.conflict_field,
        account_id=answer.account_id,
        person_id=answer.person_id,
        home_person_id=answer.home_person_id,
        created=answer.is_created,
    )
    if answer.release_ms is not None:
        response.release_time.FromMilliseconds(answer.release_ms)
    return response
