"""Shows persons and claims to support staff: GetPerson, ExplainPerson, GetClaim and ListClaims.

Owns what is gathered for one human. Must not write, nor show anything unmasked.
Next: `lastunit.account.views`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, trees, views
from lastunit.account.resolving import account_message
from lastunit.account.states import ClaimState, Entity
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.ports import Means

__all__ = ["Showing"]

# Of each kind in one answer.
_TIES_MAX: Final = 256
_TRANSITIONS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class _Whole:
    """Is everything that belongs to one human, as rows."""

    person_ids: Sequence[str]
    account_ids: Sequence[str]
    unions: Sequence[sa.Row[Any]]
    merges: Sequence[sa.Row[Any]]
    claims: Sequence[sa.Row[Any]]


class Showing:
    """Answers support staff.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._database = means.database

    async def GetPerson(  # noqa: N802 - named by the contract
        self, request: pb.GetPersonRequest, _context: object
    ) -> pb.GetPersonResponse:
        """Shows all that is known of a person, masked."""
        with self._database.read() as connection:
            person_id = request.person_id
            if request.HasField("account_id"):
                person_id = _person_of(connection, request.account_id)
                if not person_id:
                    return pb.GetPersonResponse(refusal=pb.REFUSAL_UNKNOWN_ACCOUNT)
            root = trees.root_of(connection, person_id)
            if not root:
                return pb.GetPersonResponse(refusal=pb.REFUSAL_UNKNOWN_PERSON)
            whole = _gather(connection, root)
            persons = {
                row.person_id: views.person(row)
                for row in _rows(connection, _tables.persons, "person_id", whole.person_ids)
            }
            accounts = [account_message(connection, each) for each in whole.account_ids]
            return pb.GetPersonResponse(
                person=persons[root],
                parts=[persons[each] for each in whole.person_ids if each != root],
                accounts=[each for each in accounts if each is not None],
                identifiers=views.identifiers_of(connection, whole.account_ids),
                unions=[views.union(row) for row in whole.unions],
                merges=[views.merge(row) for row in whole.merges],
                claims=[views.claim(row) for row in whole.claims],
            )

    async def ExplainPerson(  # noqa: N802 - named by the contract
        self, request: pb.ExplainPersonRequest, _context: object
    ) -> pb.ExplainPersonResponse:
        """Lists every move of a person and of what belongs to it, by time."""
        with self._database.read() as connection:
            root = trees.root_of(connection, request.person_id)
            if not root:
                return pb.ExplainPersonResponse(refusal=pb.REFUSAL_UNKNOWN_PERSON)
            whole = _gather(connection, root)
            begun = list(_beginnings(connection, whole))
            table = _tables.transitions
            rows = connection.execute(
                sa.select(table)
                .where(table.c.entity_id.in_([each.entity_id for each in begun]))
                .order_by(table.c.number)
                .limit(_TRANSITIONS_MAX)
            )
            moved = [views.transition(row) for row in rows]
            persons = _rows(connection, _tables.persons, "person_id", [root])
        # Stable: what began a thing stands before what moved it in the same moment.
        listed = sorted([*begun, *moved], key=lambda each: each.time.ToMilliseconds())
        return pb.ExplainPersonResponse(
            person=views.person(persons[0]), transitions=listed[:_TRANSITIONS_MAX]
        )

    async def GetClaim(  # noqa: N802 - named by the contract
        self, request: pb.GetClaimRequest, _context: object
    ) -> pb.GetClaimResponse:
        """Shows one claim."""
        with self._database.read() as connection:
            claim = views.claim_row(connection, request.claim_id)
        if claim is None:
            return pb.GetClaimResponse(refusal=pb.REFUSAL_UNKNOWN_CLAIM)
        return pb.GetClaimResponse(claim=views.claim(claim))

    async def ListClaims(  # noqa: N802 - named by the contract
        self, request: pb.ListClaimsRequest, _context: object
    ) -> pb.ListClaimsResponse:
        """Lists claims, oldest first."""
        table = _tables.claims
        query = sa.select(table)
        if request.state:
            state = person_pb2.ClaimState.Name(request.state).removeprefix("CLAIM_STATE_")
            query = query.where(table.c.state == ClaimState(state))
        with self._database.read() as connection:
            if request.person_id:
                root = trees.root_of(connection, request.person_id)
                members = trees.members_of(connection, root)
                query = query.where(
                    table.c.person_id.in_(members) | table.c.owner_person_id.in_(members)
                )
            after = views.claim_row(connection, request.page_token) if request.page_token else None
            if after is not None:
                query = query.where(
                    sa.tuple_(table.c.create_ms, table.c.claim_id)
                    > sa.tuple_(sa.literal(after.create_ms), sa.literal(after.claim_id))
                )
            rows = connection.execute(
                query.order_by(table.c.create_ms, table.c.claim_id).limit(request.page_size + 1)
            ).all()
        page = rows[: request.page_size]
        return pb.ListClaimsResponse(
            claims=[views.claim(row) for row in page],
            next_page_token=page[-1].claim_id if len(rows) > len(page) else "",
        )


def _person_of(connection: sa.Connection, account_id: str) -> str:
    table = _tables.accounts
    query = sa.select(table.c.person_id).where(table.c.account_id == account_id)
    return str(connection.scalar(query) or "")


def _rows(
    connection: sa.Connection, table: sa.Table, column: str, values: Sequence[str]
) -> Sequence[sa.Row[Any]]:
    key = table.c[column]
    return connection.execute(sa.select(table).where(key.in_(values)).order_by(key)).all()


def _gather(connection: sa.Connection, root: str) -> _Whole:
    """Finds what belongs to a live person, and what once did."""
    members = list(trees.members_of(connection, root))

    def ties(table: sa.Table, one: str, other: str, date: str) -> Sequence[sa.Row[Any]]:
        query = sa.select(table).where(table.c[one].in_(members) | table.c[other].in_(members))
        return connection.execute(query.order_by(table.c[date].desc()).limit(_TIES_MAX)).all()

    return _Whole(
        person_ids=members,
        account_ids=trees.accounts_of(connection, members),
        unions=ties(_tables.unions, "person_id", "owner_person_id", "create_ms"),
        merges=ties(_tables.merges, "source_person_id", "target_person_id", "execute_ms"),
        claims=ties(_tables.claims, "person_id", "owner_person_id", "create_ms"),
    )


def _beginnings(connection: sa.Connection, whole: _Whole) -> Sequence[person_pb2.Transition]:
    """Returns the first move of each thing, which its own row dates."""
    identifiers = _rows(connection, _tables.identifiers, "account_id", whole.account_ids)
    found: list[tuple[Entity, str, str, str, int]] = [
        *(
            (Entity.PERSON, row.person_id, "REGISTER", "PROVISIONAL", row.create_ms)
            for row in _rows(connection, _tables.persons, "person_id", whole.person_ids)
        ),
        *(
            (Entity.ACCOUNT, row.account_id, "REGISTER", "ACTIVE", row.create_ms)
            for row in _rows(connection, _tables.accounts, "account_id", whole.account_ids)
        ),
        *((Entity.IDENTIFIER, row.identifier_id, *_first(row)) for row in identifiers),
        *((Entity.UNION, row.union_id, "MATCH", "ACTIVE", row.create_ms) for row in whole.unions),
        *((Entity.CLAIM, row.claim_id, "OPEN", "OPENED", row.create_ms) for row in whole.claims),
        *(
            (Entity.MERGE, row.merge_id, "EXECUTE", "EXECUTED", row.execute_ms)
            for row in whole.merges
        ),
    ]
    beginnings = []
    for entity, entity_id, event, state, time_ms in found:
        begun = person_pb2.Transition(
            entity=person_pb2.EntityKind.Value(f"ENTITY_KIND_{entity}"),
            entity_id=entity_id,
            event=event,
            state_from="NONE",
            state_to=state,
        )
        begun.time.FromMilliseconds(time_ms)
        beginnings.append(begun)
    return beginnings


def _first(identifier: sa.Row[Any]) -> tuple[str, str, int]:
    """Returns how an identifier began: proved in the moment it came, or not."""
    if identifier.verify_ms == identifier.create_ms:
        return "PROVE", "VERIFIED", identifier.create_ms
    return "ADD", "UNVERIFIED", identifier.create_ms
