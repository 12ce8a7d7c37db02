"""The calls of the reference ledger that no request reaches."""

from __future__ import annotations

import pytest

from lastunit.reference import Ledger
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

WHO = {"actor": "tester", "reason": "test"}
POOL = {"sale_id": "sale", "sku": "unit", "pool": "main"}
EXPIRES = 1_000_000 + 600_000


@pytest.fixture
def ledger() -> Ledger:
    """A sale of two units, one of them held by `r1`."""
    ledger = Ledger(now_ms=1_000_000)
    lines = [reservation_pb2.Line(sku="unit", units=1)]
    for request in (
        admin_pb2.PutSaleRequest(request_id="q1", sale_id="sale", **WHO),
        admin_pb2.PutPoolRequest(request_id="q2", is_offered=True, **POOL, **WHO),
        admin_pb2.SupplyStockRequest(request_id="q3", units=2, **POOL, **WHO),
        stock_pb2.ReserveRequest(reservation_id="r1", sale_id="sale", person_id="p1", lines=lines),
    ):
        assert ledger.apply(request).result.outcome == 1
    return ledger


def state_of(ledger: Ledger) -> int:
    """Returns the state of `r1`."""
    request = stock_pb2.GetReservationRequest(reservation_id="r1")
    return int(ledger.apply(request).reservation.state)


def test_no_timer_runs_inside_apply(ledger: Ledger) -> None:
    """A request far in the future finds the hold still there; `advance` ends it."""
    request = stock_pb2.GetReservationRequest(reservation_id="r1")
    late = ledger.apply(request, now_ms=EXPIRES + 1).reservation.state
    last = ledger.advance(EXPIRES + 1)

    assert late == reservation_pb2.STATE_HELD
    assert last == ledger.sequence
    assert state_of(ledger) == reservation_pb2.STATE_RELEASED


def test_a_timer_that_may_not_run_says_so(ledger: Ledger) -> None:
    """A millisecond early nothing changes; in time it does, once."""
    early = ledger.expire("r1", EXPIRES - 1)
    in_time = ledger.expire("r1", EXPIRES)
    again = ledger.expire("r1", EXPIRES)

    assert (early, in_time, again) == (False, True, False)
    assert ledger.become_overdue("r1", EXPIRES) is False
    assert ledger.move_sale("sale", EXPIRES) is False


def test_an_outage_is_added_to_every_hold(ledger: Ledger) -> None:
    """The hold ends by the time of the outage later."""
    ledger.open(1_000_500, credit_ms=5_000)

    assert ledger.expire("r1", EXPIRES + 4_999) is False
    assert ledger.expire("r1", EXPIRES + 5_000) is True


def test_usage_counts_what_a_person_claims(ledger: Ledger) -> None:
    """One unit and one unpaid reservation, until it is released."""
    held = ledger.usage("sale", "p1")
    ledger.expire("r1", EXPIRES)

    assert held == ({"unit": 1}, 1)
    assert ledger.usage("sale", "p1") == ({}, 0)


def test_a_forgotten_sale_leaves_nothing_behind(ledger: Ledger) -> None:
    """Its reservations and persons are gone, and the rest holds together."""
    ledger.forget_sale("sale")

    assert (ledger.sales, ledger.reservations, ledger.persons) == ({}, {}, {})
    assert ledger.check() == []


def test_a_broken_counter_is_found(ledger: Ledger) -> None:
    """The check counts again: a unit too many is named, with its pool."""
    ledger.sales["sale"].skus["unit"].pools[0].held += 1

    assert {(name, subject) for name, subject, _ in ledger.check()} == {
        ("conservation", "sale/unit/main"),
        ("agreement", "sale/unit/main"),
    }
