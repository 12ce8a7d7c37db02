"""Persons, accounts, claims and merges in lines that support staff read.

Owns the words. Must not call anybody, and shows identifiers as they come: masked.
Next: `lastunit.account.desk_cli`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["account", "claim", "merge", "person", "refusal"]


def refusal(value: pb.Refusal.ValueType) -> str:
    """Returns why the service refused, without the contract's prefix."""
    return pb.Refusal.Name(value).removeprefix("REFUSAL_")


def account(shown: pb.Account) -> str:
    """Returns an account in a line."""
    state = pb.AccountState.Name(shown.state).removeprefix("ACCOUNT_STATE_")
    if shown.lock_reason:
        state += f" ({pb.LockReason.Name(shown.lock_reason).removeprefix('LOCK_REASON_')})"
    return (
        f"account {shown.account_id}  {state}  {shown.masked_identifier or 'no identifier'}"
        f"  person {shown.person_id}  made with {shown.home_person_id}"
    )


def claim(shown: person_pb2.Claim) -> str:
    """Returns a claim in a line, with the time at which it goes on."""
    state = person_pb2.ClaimState.Name(shown.state).removeprefix("CLAIM_STATE_")
    line = (
        f"claim {shown.claim_id}  {state}  by account {shown.account_id} (person {shown.person_id})"
        f" on person {shown.owner_person_id}, {_time(shown.create_time)}"
    )
    if shown.state == person_pb2.CLAIM_STATE_WAITING:
        line += f", waits until {_time(shown.wait_until_time)}"
    if shown.state == person_pb2.CLAIM_STATE_APPROVED:
        line += f", to be confirmed until {_time(shown.confirm_until_time)}"
    return line + (f", merge {shown.merge_id}" if shown.merge_id else "")


def merge(shown: person_pb2.Merge) -> str:
    """Returns a merge in a line, with the time until which it can be taken back."""
    state = person_pb2.MergeState.Name(shown.state).removeprefix("MERGE_STATE_")
    line = (
        f"merge {shown.merge_id}  {state}  {shown.source_person_id} into"
        f" {shown.target_person_id}, {_time(shown.execute_time)}"
    )
    if shown.state == person_pb2.MERGE_STATE_EXECUTED:
        line += f", can be taken back until {_time(shown.reversible_until_time)}"
    return line


def person(
    shown: pb.GetPersonResponse, transitions: Iterable[person_pb2.Transition]
) -> Iterator[str]:
    """Yields lines: the person, what belongs to it, then its moves by time."""
    yield _person(shown.person)
    yield from (f"  part: {_person(part)}" for part in shown.parts)
    yield from (f"  {account(each)}" for each in shown.accounts)
    for each in shown.identifiers:
        state = person_pb2.IdentifierState.Name(each.state).removeprefix("IDENTIFIER_STATE_")
        yield f"  identifier {each.identifier_id}  {state}  {each.masked}  of {each.account_id}"
    for union in shown.unions:
        state = "counts as one with" if union.is_active else "counted as one with"
        yield f"  union {union.union_id}  {union.person_id} {state} {union.owner_person_id}"
    yield from (f"  {merge(each)}" for each in shown.merges)
    yield from (f"  {claim(each)}" for each in shown.claims)
    for step in transitions:
        entity = person_pb2.EntityKind.Name(step.entity).removeprefix("ENTITY_KIND_").lower()
        who = f" by {step.actor}" if step.actor else ""
        why = f": {step.reason}" if step.reason else ""
        yield (
            f"{_time(step.time)}  {entity} {step.entity_id}  {step.state_from} -> {step.state_to}"
            f"  {step.event} ({step.cause}){who}{why}"
        )


def _person(shown: person_pb2.Person) -> str:
    state = person_pb2.PersonState.Name(shown.state).removeprefix("PERSON_STATE_")
    into = f" into {shown.merged_into_person_id}" if shown.merged_into_person_id else ""
    return f"person {shown.person_id}  {state}{into}, since {_time(shown.create_time)}"


def _time(stamp: Any) -> str:
    return str(stamp.ToJsonString())
