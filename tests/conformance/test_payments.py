"""Money is the truth: attempts, late news, refunds."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import rehearsal_service_pb2 as clock
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import Ledger, new_id

SUCCEEDED = reservation.PAYMENT_RESULT_SUCCEEDED
FAILED = reservation.PAYMENT_RESULT_FAILED
CANCELLED = reservation.PAYMENT_RESULT_CANCELLED


def advance(ledger: Ledger, reservation_id: str, *, seconds: int) -> None:
    """Sets the clock to so many seconds after a reservation was made."""
    request = stock.GetReservationRequest(reservation_id=reservation_id)
    made = ledger.must(ledger.stock.GetReservation(request)).reservation.create_time
    now = Timestamp(seconds=made.seconds + seconds, nanos=made.nanos)
    ledger.rehearsal.SetClock(clock.SetClockRequest(now_time=now))


def test_a_payment_that_succeeds_sells_the_unit(ledger: Ledger) -> None:
    """HELD, PAYING, CONFIRMED: held, paying, sold."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    attempt_id = new_id("attempt")

    begun = ledger.must(ledger.begin(reservation_id, attempt_id))
    paying = ledger.counters(sale_id)
    settled = ledger.must(ledger.settle(reservation_id, attempt_id, SUCCEEDED))

    assert begun.result.state == reservation.STATE_PAYING
    assert begun.HasField("settle_by_time")
    assert begun.attempt_count == 1
    assert paying == {"supplied": 1, "paying": 1}
    assert settled.result.state == reservation.STATE_CONFIRMED
    assert settled.attempt_state == reservation.ATTEMPT_STATE_APPLIED
    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


@pytest.mark.parametrize("result", [FAILED, CANCELLED])
def test_a_payment_that_fails_goes_back_to_held(ledger: Ledger, result: Any) -> None:
    """The buyer keeps the unit for another try, until a time that is told."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = ledger.paying(sale_id)

    settled = ledger.must(ledger.settle(reservation_id, attempt_id, result))

    assert settled.result.state == reservation.STATE_HELD
    assert settled.HasField("expire_time")
    assert ledger.counters(sale_id) == {"supplied": 1, "held": 1}


def test_a_success_after_a_failure_is_honoured(ledger: Ledger) -> None:
    """News of higher rank wins; news of lower rank is ignored."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = ledger.paying(sale_id)
    ledger.must(ledger.settle(reservation_id, attempt_id, FAILED))

    success = ledger.must(ledger.settle(reservation_id, attempt_id, SUCCEEDED))
    failure = ledger.must(ledger.settle(reservation_id, attempt_id, FAILED))

    assert success.result.state == reservation.STATE_CONFIRMED
    assert failure.ignored
    assert failure.result.state == reservation.STATE_CONFIRMED


def test_money_for_a_released_reservation_takes_a_free_unit(ledger: Ledger) -> None:
    """A late success re-takes a unit in the same step."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = released(ledger, sale_id)

    late = ledger.must(ledger.settle(reservation_id, new_id("attempt"), SUCCEEDED))

    assert late.retaken
    assert late.unregistered_attempt
    assert late.result.state == reservation.STATE_CONFIRMED
    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


def released(ledger: Ledger, sale_id: str) -> str:
    """Reserves and gives back."""
    reservation_id = ledger.held(sale_id)
    request = stock.ReleaseRequest(
        request_id=new_id("request"),
        reservation_id=reservation_id,
        release_reason=reservation.RELEASE_REASON_CLIENT,
    )
    ledger.must(ledger.settling.Release(request))
    return reservation_id


def test_money_without_a_unit_is_owed_and_given_back(ledger: Ledger) -> None:
    """With no unit left the refund is due at once, until it is recorded."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = released(ledger, sale_id)
    ledger.sold(sale_id)
    attempt_id = new_id("attempt")

    owed = ledger.must(ledger.settle(reservation_id, attempt_id, SUCCEEDED))
    refund = stock.RecordRefundRequest(
        request_id=new_id("request"), reservation_id=reservation_id, attempt_id=attempt_id
    )
    paid_back = ledger.must(ledger.settling.RecordRefund(refund))

    assert owed.refund_due
    assert owed.attempt_state == reservation.ATTEMPT_STATE_REFUND_DUE
    assert owed.result.state == reservation.STATE_REFUND_DUE
    assert paid_back.result.state == reservation.STATE_REFUNDED
    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


def test_a_second_payment_of_one_reservation_is_owed_back(ledger: Ledger) -> None:
    """Paid twice: the unit stays sold once, the other attempt's money is due."""
    sale_id = ledger.put_sale(units=2)
    reservation_id, first = ledger.paying(sale_id)
    second = new_id("attempt")
    ledger.must(ledger.begin(reservation_id, second))
    ledger.must(ledger.settle(reservation_id, first, SUCCEEDED))

    twice = ledger.must(ledger.settle(reservation_id, second, SUCCEEDED))

    assert twice.refund_due
    assert twice.result.state == reservation.STATE_CONFIRMED
    assert ledger.counters(sale_id) == {"supplied": 2, "available": 1, "sold": 1}


def test_attempts_are_bounded(ledger: Ledger) -> None:
    """The fifth attempt of a reservation is refused and the limit named."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    for _ in range(4):
        ledger.must(ledger.begin(reservation_id, new_id("attempt")))

    refused = ledger.begin(reservation_id, new_id("attempt"))

    assert refused.result.outcome == outcome.OUTCOME_TOO_MANY_ATTEMPTS
    assert refused.result.limit == "attempts_per_reservation_max"


def test_a_release_waits_while_a_payment_is_open(ledger: Ledger) -> None:
    """The units stay until the provider says that the payment is cancelled."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = ledger.paying(sale_id)
    request = stock.ReleaseRequest(
        request_id=new_id("request"),
        reservation_id=reservation_id,
        release_reason=reservation.RELEASE_REASON_CLIENT,
    )

    asked = ledger.must(ledger.settling.Release(request))
    kept = ledger.counters(sale_id)
    ledger.must(ledger.settle(reservation_id, attempt_id, CANCELLED))

    assert asked.release_requested
    assert kept == {"supplied": 1, "paying": 1}
    assert ledger.state(reservation_id) == reservation.STATE_RELEASED
    assert ledger.counters(sale_id) == {"supplied": 1, "available": 1}


def test_unverified_release_needs_the_policy(ledger: Ledger) -> None:
    """By default no operator can give back a unit whose payment is unknown."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, _ = ledger.paying(sale_id)
    request = admin.ReleaseUnverifiedRequest(**ledger.by(), reservation_id=reservation_id)

    reply = ledger.admin.ReleaseUnverified(request)

    assert reply.result.outcome in {outcome.OUTCOME_NOT_ALLOWED, outcome.OUTCOME_WRONG_STATE}
    assert ledger.state(reservation_id) == reservation.STATE_PAYING


def test_the_clock_ends_a_hold_and_never_a_payment(rehearsal: Ledger) -> None:
    """Past its time a held unit is free again; a paying one becomes overdue and stays."""
    sale_id = rehearsal.put_sale(units=2)
    held = rehearsal.held(sale_id)
    paying, attempt_id = rehearsal.paying(sale_id)

    advance(rehearsal, held, seconds=5000)

    assert rehearsal.state(held) == reservation.STATE_RELEASED
    assert rehearsal.state(paying) == reservation.STATE_OVERDUE
    assert rehearsal.counters(sale_id) == {"supplied": 2, "available": 1, "overdue": 1}
    late = rehearsal.must(rehearsal.settle(paying, attempt_id, SUCCEEDED))
    assert late.result.state == reservation.STATE_CONFIRMED


def test_paying_after_the_hold_ran_out_takes_the_unit_again(rehearsal: Ledger) -> None:
    """BeginPayment on an expired hold re-takes a unit, or says SOLD_OUT before money moves."""
    sale_id = rehearsal.put_sale(units=1)
    first, second = rehearsal.held(sale_id), new_id("reservation")
    advance(rehearsal, first, seconds=601)
    again = rehearsal.must(rehearsal.begin(first, new_id("attempt")))

    refused_sale = rehearsal.put_sale(units=1)
    rehearsal.held(refused_sale, reservation_id=second)
    advance(rehearsal, second, seconds=601)
    rehearsal.sold(refused_sale)
    refused = rehearsal.begin(second, new_id("attempt"))

    assert again.retaken
    assert again.result.state == reservation.STATE_PAYING
    assert refused.result.outcome == outcome.OUTCOME_SOLD_OUT
