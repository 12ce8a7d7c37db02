"""Binds real names to persons: BindRealName.

Owns the fingerprints and the unions that begin and end with them. Must not keep a name or a number.
Next: `lastunit.account.claiming` is the way out that this answer names.

From the moment a name is found to be another person's, both count as one towards limits, before any
merge and before the caller is told. That ends when the person proves a name of its own, or becomes
part of the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.account import _tables, merging, moves, person_events, trees, views
from lastunit.account.claim_rules import claim_open_ms
from lastunit.account.deeds import Done, RefusedError, carry_out, stable_digest
from lastunit.account.name_checker import normalized_number
from lastunit.account.person_events import Kind
from lastunit.account.states import (
    AccountState,
    Entity,
    PersonEvent,
    PersonState,
    UnionEvent,
)
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.keys import KeyRing, VersionDigest
    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means, NameChecker

__all__ = ["RealNames", "fingerprints", "is_of", "owner_of", "usable_account"]

# What the digests of numbers are told apart by from those of identifiers.
_LABEL = "identity"


def fingerprints(ring: KeyRing, number: str) -> Sequence[VersionDigest]:
    """Returns the digests of a document's number under every key, the active one first."""
    return ring.digests(_LABEL, normalized_number(number))


def owner_of(connection: sa.Connection, digests: Sequence[VersionDigest]) -> str:
    """Returns the live person whose real name has one of these fingerprints; empty if nobody's."""
    table = _tables.real_names
    found = connection.scalar(
        sa.select(table.c.person_id)
        .where(table.c.digest.in_([each.digest for each in digests]))
        .limit(1)
    )
    return trees.root_of(connection, found) if found else ""


def usable_account(connection: sa.Connection, account_id: str) -> sa.Row[Any]:
    """Returns an account that may be used.

    Raises:
        RefusedError: It is unknown, locked or closed.
    """
    table = _tables.accounts
    row = connection.execute(sa.select(table).where(table.c.account_id == account_id)).one_or_none()
    if row is None:
        raise RefusedError(pb.REFUSAL_UNKNOWN_ACCOUNT)
    if row.state == AccountState.LOCKED:
        raise RefusedError(pb.REFUSAL_ACCOUNT_LOCKED)
    if row.state == AccountState.CLOSED:
        raise RefusedError(pb.REFUSAL_ACCOUNT_CLOSED)
    return row


class RealNames:
    """Binds real names.

    Args:
        means: What to work with.
        checker: Judges names.
    """

    def __init__(self, means: Means, checker: NameChecker) -> None:
        self._means = means
        self._checker = checker

    async def BindRealName(  # noqa: N802 - named by the contract
        self, request: pb.BindRealNameRequest, _context: object
    ) -> pb.BindRealNameResponse:
        """Binds a real name to the person of an account, or says whose it is and what to do."""
        means = self._means
        number = normalized_number(request.real_name.number)
        is_taken = await self._checker.check(request.real_name.name, request.real_name.number)

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.BindRealNameResponse]:
            account = usable_account(connection, request.account_id)
            if not is_taken:
                raise RefusedError(pb.REFUSAL_CHECK_FAILED, person_id=account.person_id)
            return self._bind(connection, cause, account, number)

        return await carry_out(
            means,
            request,
            pb.BindRealNameResponse,
            work,
            content={
                "account_id": request.account_id,
                "real_name.number": stable_digest(means, _LABEL, number),
            },
        )

    # --- in the writer's thread ---

    def _bind(
        self, connection: sa.Connection, cause: Cause, account: sa.Row[Any], number: str
    ) -> Done[pb.BindRealNameResponse]:
        person_id = account.person_id
        digests = fingerprints(self._means.vault.ring(connection), number)
        owner = owner_of(connection, digests)
        if owner:
            self._renew(connection, cause, digests)
        if owner == person_id:
            return Done(pb.BindRealNameResponse(person_id=person_id))
        if moves.state_of(connection, Entity.PERSON, person_id) is PersonState.VERIFIED:
            raise RefusedError(pb.REFUSAL_OTHER_REAL_NAME, person_id=person_id)
        if owner:
            return self._unite(connection, cause, account, owner)
        return self._verify(connection, cause, person_id, digests[0])

    def _verify(
        self, connection: sa.Connection, cause: Cause, person_id: str, digest: VersionDigest
    ) -> Done[pb.BindRealNameResponse]:
        """The name is nobody's: the person has it now, and is not who it was taken for."""
        moves.move(
            connection,
            Entity.PERSON,
            person_id,
            PersonEvent.VERIFY,
            cause,
            verify_ms=cause.now_ms,
        )
        connection.execute(
            sa.insert(_tables.real_names),
            {
                "digest": digest.digest,
                "key_version": digest.version,
                "person_id": person_id,
                "create_ms": cause.now_ms,
            },
        )
        self._end_unions(connection, cause, person_id)
        sequence = person_events.add(connection, Kind.PERSON_VERIFIED, cause, person_id=person_id)
        return Done(pb.BindRealNameResponse(person_id=person_id), event_sequence=sequence)

    def _unite(
        self, connection: sa.Connection, cause: Cause, account: sa.Row[Any], owner: str
    ) -> Done[pb.BindRealNameResponse]:
        """The name is another person's: both count as one from here on."""
        person_id = account.person_id
        if owner not in trees.matched_owners(connection, person_id):
            # Who has this name has not the one that was given before: nobody else is to be joined
            # through a human who shows two.
            self._end_unions(connection, cause, person_id)
            union_id = f"u-{self._means.new_id()}"
            moves.begin(
                connection,
                Entity.UNION,
                UnionEvent.MATCH,
                [
                    {
                        "union_id": union_id,
                        "person_id": person_id,
                        "owner_person_id": owner,
                        "create_ms": cause.now_ms,
                    }
                ],
            )
            person_events.add(
                connection,
                Kind.PERSONS_UNITED,
                cause,
                person_id=person_id,
                other_person_id=owner,
            )
        response = pb.BindRealNameResponse(
            refusal=pb.REFUSAL_IDENTITY_BOUND,
            person_id=person_id,
            hints=self._hints(connection, owner),
            exits=self._exits(connection, account, owner, cause.now_ms),
            is_quota_united=True,
        )
        # A first call may have died before the ledger was told: whoever comes again waits too.
        return Done(response, event_sequence=person_events.last_sequence(connection))

    def _end_unions(self, connection: sa.Connection, cause: Cause, person_id: str) -> None:
        """Ends what an earlier match began: the person proved to be somebody else."""
        group = trees.group_of(connection, person_id)
        members = trees.members_of(connection, person_id)
        for row in trees.unions_of(connection, members):
            merging.end_unions(connection, cause, members, [row.person_id, row.owner_person_id])
        merging.part(connection, cause, group=group, person_id=person_id)

    def _renew(
        self, connection: sa.Connection, cause: Cause, digests: Sequence[VersionDigest]
    ) -> None:
        """Keeps the fingerprint under the active key as well, now that the number is at hand."""
        table = _tables.real_names
        rows = connection.execute(
            sa.select(table).where(table.c.digest.in_([each.digest for each in digests]))
        ).all()
        if digests[0].version not in {row.key_version for row in rows}:
            connection.execute(
                sa.insert(table),
                {
                    "digest": digests[0].digest,
                    "key_version": digests[0].version,
                    "person_id": rows[0].person_id,
                    "create_ms": cause.now_ms,
                },
            )

    def _hints(self, connection: sa.Connection, owner: str) -> Sequence[person_pb2.IdentifierView]:
        account_ids = trees.accounts_of(connection, trees.members_of(connection, owner))
        return views.identifiers_of(connection, account_ids, is_leading=True)

    def _exits(
        self, connection: sa.Connection, account: sa.Row[Any], owner: str, now_ms: int
    ) -> Sequence[person_pb2.Exit]:
        """Lists the ways out; support is always one."""
        login = person_pb2.Exit(
            kind=person_pb2.EXIT_KIND_LINK_BY_LOGIN,
            is_open=bool(self._hints(connection, owner)),
        )
        open_ms = claim_open_ms(connection, account.person_id, owner, now_ms)
        claim = person_pb2.Exit(kind=person_pb2.EXIT_KIND_CLAIM, is_open=open_ms <= now_ms)
        if not claim.is_open:
            claim.open_time.FromMilliseconds(open_ms)
        support = person_pb2.Exit(kind=person_pb2.EXIT_KIND_SUPPORT, is_open=True)
        return [login, claim, support]


def is_of(connection: sa.Connection, ring: KeyRing, person_id: str, real_name: pb.RealName) -> bool:
    """Tells whether a number is the one of a person's real name; says nothing of the name."""
    owner = owner_of(connection, fingerprints(ring, real_name.number))
    return bool(owner) and owner == trees.root_of(connection, person_id)
