"""MergePersons, SplitPersons and SetExpiryBrake: what operators set for all sales.

Owns who counts as whom, and the brake that is set by hand. Must not change units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import limits
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.words import optional_millis
from lastunit.stock.v1 import outcome_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Sale

__all__ = ["braked_until", "is_braked", "merge_persons", "set_expiry_brake", "split_persons"]

# For so long one late piece of news keeps the automatic brake on.
LAG_MEMORY: Final = 60_000


def merge_persons(ledger: Ledger, request: Any) -> Answer:
    """Counts everything of one person, and of all it stands for, as another's."""
    if request.source_person_id == request.target_person_id:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="target_person_id")
    source = limits.root_of(ledger, request.source_person_id)
    target = limits.root_of(ledger, request.target_person_id)
    if source != target:
        ledger.merged[source] = target
        for sale_id in ledger.sales:
            moved = ledger.persons.pop((sale_id, source), [])
            if moved:
                ledger.persons.setdefault((sale_id, target), []).extend(moved)
    ledger.record(
        "persons_merged",
        source_person_id=request.source_person_id,
        target_person_id=request.target_person_id,
    )
    return done()


def split_persons(ledger: Ledger, request: Any) -> Answer:
    """Counts persons apart from those they were merged with, each with what they reserved."""
    going = list(request.person_ids)
    root = limits.root_of(ledger, going[0])
    if len(set(going)) < len(going) or any(
        limits.root_of(ledger, person_id) != root for person_id in going
    ):
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="person_ids")
    everybody = [root, *(name for name in ledger.merged if limits.root_of(ledger, name) == root)]
    staying = [name for name in everybody if name not in going]
    if staying:
        count_as(ledger, going, going[0])
        count_as(ledger, staying, min(staying) if root in going else root)
        for sale_id in ledger.sales:
            for reservation in ledger.persons.pop((sale_id, root), []):
                limits.counted(ledger, reservation).append(reservation)
    ledger.record("persons_split", person_ids=going)
    return done()


def count_as(ledger: Ledger, members: list[str], root: str) -> None:
    """Makes persons count as one of them."""
    for person_id in members:
        ledger.merged.pop(person_id, None)
        if person_id != root:
            ledger.merged[person_id] = root


def set_expiry_brake(ledger: Ledger, request: Any) -> Answer:
    """Stops or allows the release of held units by the clock, in all sales."""
    until = optional_millis(request, "until_time")
    ledger.brake = (request.is_on, until)
    ledger.record("expiry_brake_set", is_on=request.is_on, until_time=until)
    return done()


def braked_until(ledger: Ledger, sale: Sale) -> int | None:
    """Returns from when on the clock may release held units of a sale, as far as is known now.

    Returns:
        A time, 0 if no brake is on; None if the brake stays on until it is set off.
    """
    until = 0
    is_on, set_until = ledger.brake
    if is_on:
        if set_until is None:
            return None
        until = set_until
    lag_max = sale.policy.expiry_brake_lag
    if lag_max and ledger.last_lag is not None:
        lag, noted = ledger.last_lag
        if lag > lag_max:
            until = max(until, noted + LAG_MEMORY)
    return until


def is_braked(ledger: Ledger, sale: Sale) -> bool:
    """Tells whether the clock may not release held units of a sale now."""
    until = braked_until(ledger, sale)
    return until is None or ledger.now < until
