"""How much a person has, and whether more would pass a limit.

Owns persons' usage. Must not change units. A person is who the merges say: `root_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.reference.state import UNPAID_STATES

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Reservation, Sale

__all__ = ["passed_limit", "root_of", "usage_of"]


def root_of(ledger: Ledger, person_id: str) -> str:
    """Returns the person that counts: the one at the end of all merges."""
    while person_id in ledger.merged:
        person_id = ledger.merged[person_id]
    return person_id


def usage_of(ledger: Ledger, sale: Sale, person_id: str) -> tuple[dict[str, int], int]:
    """Returns the units of each sku a person claims or bought in a sale, and the unpaid count."""
    units: dict[str, int] = {}
    unpaid = 0
    for reservation in ledger.persons.get((sale.sale_id, root_of(ledger, person_id)), ()):
        if not reservation.counts_against_limits():
            continue
        unpaid += reservation.state in UNPAID_STATES
        for part in reservation.parts:
            name = part.sku.name
            units[name] = units.get(name, 0) + part.units - part.limit_given_back
    return units, unpaid


def passed_limit(
    ledger: Ledger, sale: Sale, person_id: str, lines: list[tuple[str, str, int]]
) -> tuple[str, str]:
    """Returns the first limit that the lines would pass, with the sku; empty if none."""
    policy = sale.policy
    per_sku = policy.units_per_person_per_sku_max
    in_all = policy.units_per_person_max
    unpaid_max = policy.unpaid_reservations_per_person_max
    if not (per_sku or in_all or unpaid_max):
        return "", ""
    units, unpaid = usage_of(ledger, sale, person_id)
    total = sum(units.values())
    for sku_name, _, wanted in lines:
        units[sku_name] = units.get(sku_name, 0) + wanted
        total += wanted
    for sku_name, _, _ in lines:
        if per_sku and units[sku_name] > per_sku:
            return "units_per_person_per_sku_max", sku_name
    if in_all and total > in_all:
        return "units_per_person_max", ""
    if unpaid_max and unpaid + 1 > unpaid_max:
        return "unpaid_reservations_per_person_max", ""
    return "", ""


def counted(ledger: Ledger, reservation: Reservation) -> list[Reservation]:
    """Returns the list in which a reservation counts for its person."""
    root = root_of(ledger, reservation.person_id)
    return ledger.persons.setdefault((reservation.sale.sale_id, root), [])
