"""The lives of identifiers, accounts, persons, unions, merges and claims, each as a table of data.

Owns which event leads from which state to which; `moves` enforces it, the tests go through every
pair, `tools/states_page.py` draws them, and nothing else decides a state. Must not do I/O or read a
clock. Next: `lastunit.account.moves`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "TABLES",
    "AccountEvent",
    "AccountState",
    "ClaimEvent",
    "ClaimState",
    "Entity",
    "Event",
    "IdentifierEvent",
    "IdentifierState",
    "IllegalMoveError",
    "MergeEvent",
    "MergeState",
    "PersonEvent",
    "PersonState",
    "State",
    "UnionEvent",
    "UnionState",
    "next_state",
]


class Entity(StrEnum):
    """What moves."""

    IDENTIFIER = "IDENTIFIER"
    """A phone number, an e-mail address or a login at somebody else."""
    ACCOUNT = "ACCOUNT"
    """One login of a human."""
    PERSON = "PERSON"
    """A human."""
    UNION = "UNION"
    """Two persons with one real name."""
    MERGE = "MERGE"
    """A person that became part of another."""
    CLAIM = "CLAIM"
    """The way out for a human whose old logins are dead."""


class IdentifierState(StrEnum):
    """Whether an identifier leads to its account."""

    NONE = "NONE"
    """It is not there yet."""
    UNVERIFIED = "UNVERIFIED"
    """It leads to its account, but nobody proved it: the service asks for no proofs."""
    VERIFIED = "VERIFIED"
    """It leads to its account, and its owner proved it."""
    DISPUTED = "DISPUTED"
    """It leads to its account for a few days yet: somebody else proved to have it now."""
    RELEASED = "RELEASED"
    """It leads nowhere; another account may have it."""


class IdentifierEvent(StrEnum):
    """What happens to an identifier."""

    ADD = "ADD"
    """It came with a registration that asked for no proof."""
    PROVE = "PROVE"
    """Its owner gave the code that was sent to it."""
    DISPUTE = "DISPUTE"
    """Somebody else gave that code and says the account is not theirs; unused for 90 days."""
    RELEASE = "RELEASE"
    """The notice ran out, its owner changed it, its account closed, or a claim called it dead."""
    RESTORE = "RESTORE"
    """The claim that released it was reversed, and nobody else has it."""


class AccountState(StrEnum):
    """Whether an account may be used."""

    NONE = "NONE"
    """It is not there yet."""
    ACTIVE = "ACTIVE"
    """It may."""
    LOCKED = "LOCKED"
    """It may only look at what it has; the reason is kept with it."""
    CLOSED = "CLOSED"
    """It is closed for good. Terminal."""


class AccountEvent(StrEnum):
    """What happens to an account."""

    REGISTER = "REGISTER"
    """Somebody registered an identifier that led nowhere."""
    LOCK = "LOCK"
    """Support, the policy SINGLE, or a claim whose owner objected."""
    UNLOCK = "UNLOCK"
    """Support, the owner's choice, or the end of the time."""
    CLOSE = "CLOSE"
    """Its owner or support; no order of it is being paid."""


class PersonState(StrEnum):
    """How much is known of a person."""

    NONE = "NONE"
    """It is not there yet."""
    PROVISIONAL = "PROVISIONAL"
    """No real name is known. Each new account has such a person."""
    VERIFIED = "VERIFIED"
    """Its real name is proved, and nobody else has it."""
    MERGED = "MERGED"
    """It is part of a live person, which is never MERGED itself."""


class PersonEvent(StrEnum):
    """What happens to a person."""

    REGISTER = "REGISTER"
    """It came with its account."""
    VERIFY = "VERIFY"
    """The checker took its real name, and no other person has that."""
    MERGE = "MERGE"
    """Logins, or a claim, showed that it is part of another."""
    SPLIT = "SPLIT"
    """The merge was reversed."""


class UnionState(StrEnum):
    """Whether two persons count as one because of their real name."""

    NONE = "NONE"
    """They do not."""
    ACTIVE = "ACTIVE"
    """They do."""
    ENDED = "ENDED"
    """They do not any more, or they are one person now. Terminal."""


class UnionEvent(StrEnum):
    """What happens to a union."""

    MATCH = "MATCH"
    """A person proved a real name that is another one's."""
    END = "END"
    """The person proved a real name of its own, or was merged."""


class MergeState(StrEnum):
    """Whether a merge stands."""

    NONE = "NONE"
    """It is not there yet."""
    EXECUTED = "EXECUTED"
    """It stands and can be reversed for 30 days."""
    FINAL = "FINAL"
    """It stands for good. Terminal."""
    REVERSED = "REVERSED"
    """It was undone: accounts went back, units count for who bought them. Terminal."""


class MergeEvent(StrEnum):
    """What happens to a merge."""

    EXECUTE = "EXECUTE"
    """A login to both, or a confirmed claim."""
    REVERSE = "REVERSE"
    """Support or an owner undid it."""
    TIME_OVER = "TIME_OVER"
    """30 days went by."""


class ClaimState(StrEnum):
    """How far a claim is."""

    NONE = "NONE"
    """It is not there yet."""
    OPENED = "OPENED"
    """It is noted; left in the same transaction that tells the owner."""
    WAITING = "WAITING"
    """Each identifier of the owner is told; the owner has 24 h, or 72 h, to object."""
    APPROVED = "APPROVED"
    """Nobody objected; the claimant has 24 h to confirm."""
    EXECUTED = "EXECUTED"
    """It is carried out; the merge can be reversed for 30 days."""
    FINAL = "FINAL"
    """It is carried out for good. Terminal."""
    CANCELLED = "CANCELLED"
    """The owner objected, or the claimant took it back. Terminal."""
    REJECTED = "REJECTED"
    """Support said no. Terminal."""
    EXPIRED = "EXPIRED"
    """Nobody confirmed it in time. Terminal."""
    REVERSED = "REVERSED"
    """Its merge was undone. Terminal."""


class ClaimEvent(StrEnum):
    """What happens to a claim."""

    OPEN = "OPEN"
    """The real name met another person's, and the strong check took it."""
    TELL = "TELL"
    """A notice for each identifier of the owner is stored."""
    CANCEL_BY_OWNER = "CANCEL_BY_OWNER"
    """The owner logged in and objected; the claiming account is locked for 30 days."""
    WITHDRAW = "WITHDRAW"
    """The claimant took it back."""
    WAIT_OVER = "WAIT_OVER"
    """The time to object went by."""
    APPROVE = "APPROVE"
    """Support is sure and cut the wait short."""
    REJECT = "REJECT"
    """Support said no."""
    CONFIRM = "CONFIRM"
    """The claimant gave the token in time."""
    CONFIRM_OVER = "CONFIRM_OVER"
    """The time to confirm went by."""
    REVERSE = "REVERSE"
    """Its merge was reversed."""
    TIME_OVER = "TIME_OVER"
    """30 days went by after it was carried out."""


State: TypeAlias = (
    IdentifierState | AccountState | PersonState | UnionState | MergeState | ClaimState
)
Event: TypeAlias = (
    IdentifierEvent | AccountEvent | PersonEvent | UnionEvent | MergeEvent | ClaimEvent
)

_I, _IE = IdentifierState, IdentifierEvent
_A, _AE = AccountState, AccountEvent
_P, _PE = PersonState, PersonEvent
_U, _UE = UnionState, UnionEvent
_M, _ME = MergeState, MergeEvent
_C, _CE = ClaimState, ClaimEvent

TABLES: Final[Mapping[Entity, Mapping[tuple[State, Event], State]]] = {
    Entity.IDENTIFIER: {
        (_I.NONE, _IE.ADD): _I.UNVERIFIED,
        (_I.NONE, _IE.PROVE): _I.VERIFIED,
        (_I.UNVERIFIED, _IE.PROVE): _I.VERIFIED,
        (_I.UNVERIFIED, _IE.RELEASE): _I.RELEASED,
        (_I.VERIFIED, _IE.PROVE): _I.VERIFIED,
        (_I.VERIFIED, _IE.DISPUTE): _I.DISPUTED,
        (_I.VERIFIED, _IE.RELEASE): _I.RELEASED,
        # Whoever logs in to the account all the same keeps it.
        (_I.DISPUTED, _IE.PROVE): _I.VERIFIED,
        (_I.DISPUTED, _IE.RELEASE): _I.RELEASED,
        (_I.RELEASED, _IE.RESTORE): _I.VERIFIED,
    },
    Entity.ACCOUNT: {
        (_A.NONE, _AE.REGISTER): _A.ACTIVE,
        (_A.ACTIVE, _AE.LOCK): _A.LOCKED,
        (_A.ACTIVE, _AE.CLOSE): _A.CLOSED,
        (_A.LOCKED, _AE.UNLOCK): _A.ACTIVE,
        (_A.LOCKED, _AE.CLOSE): _A.CLOSED,
    },
    Entity.PERSON: {
        (_P.NONE, _PE.REGISTER): _P.PROVISIONAL,
        (_P.PROVISIONAL, _PE.VERIFY): _P.VERIFIED,
        # A person with a real name of its own never becomes part of another.
        (_P.PROVISIONAL, _PE.MERGE): _P.MERGED,
        (_P.MERGED, _PE.SPLIT): _P.PROVISIONAL,
    },
    Entity.UNION: {
        (_U.NONE, _UE.MATCH): _U.ACTIVE,
        (_U.ACTIVE, _UE.END): _U.ENDED,
    },
    Entity.MERGE: {
        (_M.NONE, _ME.EXECUTE): _M.EXECUTED,
        (_M.EXECUTED, _ME.REVERSE): _M.REVERSED,
        (_M.EXECUTED, _ME.TIME_OVER): _M.FINAL,
    },
    Entity.CLAIM: {
        (_C.NONE, _CE.OPEN): _C.OPENED,
        (_C.OPENED, _CE.TELL): _C.WAITING,
        (_C.OPENED, _CE.REJECT): _C.REJECTED,
        (_C.WAITING, _CE.CANCEL_BY_OWNER): _C.CANCELLED,
        (_C.WAITING, _CE.WITHDRAW): _C.CANCELLED,
        (_C.WAITING, _CE.WAIT_OVER): _C.APPROVED,
        (_C.WAITING, _CE.APPROVE): _C.APPROVED,
        (_C.WAITING, _CE.REJECT): _C.REJECTED,
        # The owner may come back after the wait but before anything is done.
        (_C.APPROVED, _CE.CANCEL_BY_OWNER): _C.CANCELLED,
        (_C.APPROVED, _CE.WITHDRAW): _C.CANCELLED,
        (_C.APPROVED, _CE.REJECT): _C.REJECTED,
        (_C.APPROVED, _CE.CONFIRM): _C.EXECUTED,
        (_C.APPROVED, _CE.CONFIRM_OVER): _C.EXPIRED,
        (_C.EXECUTED, _CE.REVERSE): _C.REVERSED,
        (_C.EXECUTED, _CE.TIME_OVER): _C.FINAL,
    },
}
"""The only legal moves."""


class IllegalMoveError(ValueError):
    """The table has no row for this pair; nothing was changed.

    Attributes:
        entity: What should have moved.
        state: Where it is.
        event: What has no place there.
    """

    def __init__(self, entity: Entity, state: State, event: Event) -> None:
        super().__init__(f"no {entity.lower()} in state {state} can see {event}")
        self.entity = entity
        self.state = state
        self.event = event


def next_state(entity: Entity, state: State, event: Event) -> State:
    """Returns where an event leads.

    Args:
        entity: What moves.
        state: Where it is.
        event: What happens.

    Raises:
        IllegalMoveError: It has no place there.
    """
    try:
        return TABLES[entity][state, event]
    except KeyError:
        raise IllegalMoveError(entity, state, event) from None
