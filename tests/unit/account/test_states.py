"""The tables of moves: every state with every event, and the one place that applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lastunit.account import _tables, moves, states
from lastunit.account.states import AccountEvent, Entity, IllegalMoveError, next_state
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from enum import StrEnum

    from .world import World

# One block for each table; the states of the first line, then one line for each event with the
# state it leads to from each, `-` where it has no place.
EXPECTED: dict[Entity, tuple[type[StrEnum], type[StrEnum], str]] = {
    Entity.IDENTIFIER: (
        states.IdentifierState,
        states.IdentifierEvent,
        """
        .       NONE       UNVERIFIED VERIFIED DISPUTED RELEASED
        ADD     UNVERIFIED -          -        -        -
        PROVE   VERIFIED   VERIFIED   VERIFIED VERIFIED -
        DISPUTE -          -          DISPUTED -        -
        RELEASE -          RELEASED   RELEASED RELEASED -
        RESTORE -          -          -        -        VERIFIED
        """,
    ),
    Entity.ACCOUNT: (
        states.AccountState,
        states.AccountEvent,
        """
        .        NONE   ACTIVE LOCKED CLOSED
        REGISTER ACTIVE -      -      -
        LOCK     -      LOCKED -      -
        UNLOCK   -      -      ACTIVE -
        CLOSE    -      CLOSED CLOSED -
        """,
    ),
    Entity.PERSON: (
        states.PersonState,
        states.PersonEvent,
        """
        .        NONE        PROVISIONAL VERIFIED MERGED
        REGISTER PROVISIONAL -           -        -
        VERIFY   -           VERIFIED    -        -
        MERGE    -           MERGED      -        -
        SPLIT    -           -           -        PROVISIONAL
        """,
    ),
    Entity.UNION: (
        states.UnionState,
        states.UnionEvent,
        """
        .     NONE   ACTIVE ENDED
        MATCH ACTIVE -      -
        END   -      ENDED  -
        """,
    ),
    Entity.MERGE: (
        states.MergeState,
        states.MergeEvent,
        """
        .         NONE     EXECUTED FINAL REVERSED
        EXECUTE   EXECUTED -        -     -
        REVERSE   -        REVERSED -     -
        TIME_OVER -        FINAL    -     -
        """,
    ),
    Entity.CLAIM: (
        states.ClaimState,
        states.ClaimEvent,
        """
        .      NONE OPENED WAITING APPROVED EXECUTED FINAL CANCELLED REJECTED EXPIRED REVERSED
        OPEN            OPENED -  - - - - - - - - -
        TELL            - WAITING - - - - - - - - -
        CANCEL_BY_OWNER - - CANCELLED CANCELLED - - - - - - -
        WITHDRAW        - - CANCELLED CANCELLED - - - - - - -
        WAIT_OVER       - - APPROVED  -         - - - - - - -
        APPROVE         - - APPROVED  -         - - - - - - -
        REJECT          - REJECTED REJECTED REJECTED - - - - - - -
        CONFIRM         - - - EXECUTED          - - - - - - -
        CONFIRM_OVER    - - - EXPIRED           - - - - - - -
        REVERSE         - - - - REVERSED        - - - - - -
        TIME_OVER       - - - - FINAL           - - - - - -
        """,
    ),
}


def pairs() -> list[Any]:
    """Lists every state with every event, and where the drawing says it leads."""
    found = []
    for entity, (state_type, event_type, drawing) in EXPECTED.items():
        head, *lines = (line.split() for line in drawing.strip().splitlines())
        drawn = {
            (column, line[0]): cell
            for line in lines
            for column, cell in zip(head[1:], line[1:], strict=False)
        }
        assert {state.value for state in state_type} == set(head[1:])
        assert {event.value for event in event_type} == {line[0] for line in lines}
        found += [
            pytest.param(entity, state, event, drawn[state, event], id=f"{entity}-{state}-{event}")
            for state in state_type
            for event in event_type
        ]
    return found


@pytest.mark.parametrize(("entity", "state", "event", "expected"), pairs())
def test_every_event_in_every_state_leads_where_it_is_drawn(
    entity: Entity, state: Any, event: Any, expected: str
) -> None:
    """Each pair has the drawn target, or is refused with both named."""
    if expected == "-":
        with pytest.raises(IllegalMoveError, match=f"{state} can see {event}"):
            next_state(entity, state, event)
    else:
        assert expected == next_state(entity, state, event).value


@pytest.mark.parametrize(
    ("names", "members", "prefix", "missing"),
    [
        (pb.AccountState, states.AccountState, "ACCOUNT_STATE_", {"NONE", "UNKNOWN"}),
        (person_pb2.PersonState, states.PersonState, "PERSON_STATE_", {"NONE"}),
        (person_pb2.IdentifierState, states.IdentifierState, "IDENTIFIER_STATE_", {"NONE"}),
        (person_pb2.MergeState, states.MergeState, "MERGE_STATE_", {"NONE"}),
        (person_pb2.ClaimState, states.ClaimState, "CLAIM_STATE_", {"NONE"}),
        (person_pb2.EntityKind, Entity, "ENTITY_KIND_", set()),
    ],
)
def test_the_contract_has_a_word_for_each_state(
    names: Any, members: type[StrEnum], prefix: str, missing: set[str]
) -> None:
    """What is stored can be shown; only what is not there has no word, or another one."""
    wire = {name.removeprefix(prefix) for name, _ in names.items()} - {"UNSPECIFIED"}

    assert {member.value for member in members} - missing == wire - missing


async def test_a_move_is_written_down_with_what_led_to_it(world: World) -> None:
    """The row of the transition has both states, the event, the cause, the actor and the time."""
    account_id = await world.sign_up("anna@example.org")
    cause = moves.Cause("q-lock", world.clock.now_ms(), actor="desk-1", reason="asked by phone")

    target = await world.database.run(
        lambda connection: moves.move(
            connection,
            Entity.ACCOUNT,
            account_id,
            AccountEvent.LOCK,
            cause,
            lock_reason="OPERATOR",
        )
    )

    with world.database.read() as connection:
        row = connection.execute(sa.select(_tables.transitions)).one()
    assert states.AccountState.LOCKED is target
    assert (row.state_from, row.state_to, row.event) == ("ACTIVE", "LOCKED", "LOCK")
    assert (row.cause, row.actor, row.reason) == ("q-lock", "desk-1", "asked by phone")
    assert account_id == row.entity_id
    assert world.clock.now_ms() == row.time_ms


async def test_an_illegal_move_changes_nothing(world: World) -> None:
    """What the table does not have is refused before anything is written."""
    account_id = await world.sign_up("anna@example.org")
    cause = moves.Cause("q-unlock", world.clock.now_ms())

    with pytest.raises(IllegalMoveError):
        await world.database.run(
            lambda connection: moves.move(
                connection, Entity.ACCOUNT, account_id, AccountEvent.UNLOCK, cause, version=99
            )
        )

    with world.database.read() as connection:
        assert connection.scalar(sa.select(_tables.accounts.c.version)) == 1
        assert connection.execute(sa.select(_tables.transitions)).all() == []
