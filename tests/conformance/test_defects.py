"""Defects found in other stock systems, each turned into what a ledger must do instead.

Each was seen in a system that people use; the docstring says what went wrong there.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import sale_pb2 as sale
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import SKU, Ledger, new_id, reserve_request
from .test_payments import advance

SUCCEEDED = reservation.PAYMENT_RESULT_SUCCEEDED
FAILED = reservation.PAYMENT_RESULT_FAILED


def line(units: int, *, pool: str = "", sku: str = SKU) -> reservation.Line:
    """Builds one line."""
    return reservation.Line(sku=sku, pool=pool, units=units)


def by_id(reservation_id: str) -> dict[str, Any]:
    """Returns what most settling requests carry."""
    return {"request_id": new_id("request"), "reservation_id": reservation_id}


def release(ledger: Ledger, reservation_id: str) -> Any:
    """Releases a reservation for its buyer."""
    request = stock.ReleaseRequest(
        **by_id(reservation_id), release_reason=reservation.RELEASE_REASON_CLIENT
    )
    return ledger.settling.Release(request, timeout=10)


def extend(ledger: Ledger, reservation_id: str, seconds: int) -> Any:
    """Asks for more time."""
    extension = Duration(seconds=seconds)
    request = stock.ExtendRequest(**by_id(reservation_id), extension=extension)
    return ledger.settling.Extend(request, timeout=10)


def exchange(ledger: Ledger, *operations: stock.Operation) -> Any:
    """Sends one batch; returns its reply."""
    message = stock.ExchangeRequest(exchange_id=1, operations=operations)
    [reply] = ledger.stock.Exchange(iter([message]), timeout=10)
    return reply


@pytest.mark.parametrize("pools", [("", ""), ("main", "main"), ("", "main"), ("main", "")])
def test_duplicate_lines_are_summed_before_stock_is_looked_at(
    ledger: Ledger, pools: tuple[str, str]
) -> None:
    """There: each line was checked by itself, so 3 + 3 of 5 units passed and oversold."""
    sale_id = ledger.put_sale(units=5)
    lines = [line(3, pool=pool) for pool in pools]

    refused = ledger.reserve(sale_id, lines=lines)
    served = ledger.reserve(sale_id, lines=[line(3, pool=pools[0]), line(2, pool=pools[1])])

    assert refused.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert served.result.outcome == outcome.OUTCOME_OK
    assert ledger.counters(sale_id) == {"supplied": 5, "held": 5}


def test_duplicate_lines_are_summed_before_limits_are_looked_at(ledger: Ledger) -> None:
    """There: a limit of two units a person was passed by two lines of two."""
    sale_id = ledger.put_sale(units=9, units_per_person_per_sku_max=2)

    refused = ledger.reserve(sale_id, lines=[line(2), line(2)])

    assert refused.result.outcome == outcome.OUTCOME_LIMIT_REACHED
    assert ledger.counters(sale_id) == {"supplied": 9, "available": 9}


def test_an_extension_does_not_revive_what_was_given_back(ledger: Ledger) -> None:
    """There: extend set a new expiry on a released claim, and the unit was sold twice."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    ledger.must(release(ledger, reservation_id))
    other = ledger.held(sale_id)

    revived = extend(ledger, reservation_id, 60)

    assert revived.result.outcome == outcome.OUTCOME_WRONG_STATE
    assert ledger.state(reservation_id) == reservation.STATE_RELEASED
    assert ledger.state(other) == reservation.STATE_HELD
    assert ledger.counters(sale_id) == {"supplied": 1, "held": 1}


def test_an_extension_does_not_revive_what_has_lapsed(rehearsal: Ledger) -> None:
    """There: a lapsed claim was extended because nobody had looked at the clock first."""
    sale_id = rehearsal.put_sale(units=1)
    reservation_id = rehearsal.held(sale_id)
    advance(rehearsal, reservation_id, seconds=601)
    other = rehearsal.held(sale_id)

    revived = extend(rehearsal, reservation_id, 60)

    assert revived.result.outcome == outcome.OUTCOME_WRONG_STATE
    assert rehearsal.state(reservation_id) == reservation.STATE_RELEASED
    assert rehearsal.state(other) == reservation.STATE_HELD
    assert rehearsal.counters(sale_id) == {"supplied": 1, "held": 1}


def test_the_second_location_counts_too(ledger: Ledger) -> None:
    """There: only the first location was read, so stock of the second was unsellable."""
    sale_id = ledger.put_sale(units=1, pools=("north", "south"))
    ledger.supply(sale_id, 2, pool="south")

    served = [ledger.reserve(sale_id).result.outcome for _ in range(4)]

    assert served == [outcome.OUTCOME_OK] * 3 + [outcome.OUTCOME_SOLD_OUT]


def test_units_go_back_to_the_location_they_came_from(ledger: Ledger) -> None:
    """There: what was released landed in the default location, and each count drifted."""
    sale_id = ledger.put_sale(units=1, pools=("north", "south"))
    ledger.supply(sale_id, 2, pool="south")
    reservation_id = ledger.held(sale_id, 3)

    ledger.must(release(ledger, reservation_id))

    request = stock.GetAvailabilityRequest(sale_id=sale_id, skus=[SKU])
    [shown] = ledger.must(ledger.stock.GetAvailability(request)).availabilities
    found = {pool.pool: pool.counters.available for pool in shown.pools}
    assert found == {"north": 1, "south": 2}


def test_the_id_is_looked_up_before_stock(ledger: Ledger) -> None:
    """There: the retry of the order that took the last unit was told sold out."""
    sale_id = ledger.put_sale(units=1)
    request = reserve_request(sale_id)
    first = ledger.must(ledger.stock.Reserve(request))

    again = ledger.must(ledger.stock.Reserve(request))

    assert again.result.replayed
    assert again.expire_time == first.expire_time


def test_the_id_is_looked_up_before_limits_and_the_sale(ledger: Ledger) -> None:
    """There: a retry ran into the limit that its own first try had used up."""
    sale_id = ledger.put_sale(units=2, units_per_person_max=1)
    request = reserve_request(sale_id)
    ledger.must(ledger.stock.Reserve(request))
    ledger.must(
        ledger.admin.SetSaleState(
            admin.SetSaleStateRequest(**ledger.by(), sale_id=sale_id, state=sale.SALE_STATE_CLOSED)
        )
    )

    again = ledger.stock.Reserve(request)

    assert again.result.outcome == outcome.OUTCOME_OK
    assert again.result.replayed


def test_sold_out_clears_when_units_come_back(ledger: Ledger) -> None:
    """There: a sold-out flag in a cache stayed set after units were given back."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    gone = ledger.reserve(sale_id)
    ledger.must(release(ledger, reservation_id))

    back = ledger.reserve(sale_id)

    assert gone.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert back.result.outcome == outcome.OUTCOME_OK


def test_sold_out_clears_when_stock_is_supplied(ledger: Ledger) -> None:
    """There: new stock was in the database and the page went on saying sold out."""
    sale_id = ledger.put_sale(units=1)
    ledger.sold(sale_id)
    gone = ledger.reserve(sale_id)
    ledger.supply(sale_id, 1)
    request = stock.GetAvailabilityRequest(sale_id=sale_id, skus=[SKU])
    [shown] = ledger.must(ledger.stock.GetAvailability(request)).availabilities

    back = ledger.reserve(sale_id)

    assert gone.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert shown.level != gone.result.level
    assert shown.level_epoch > gone.result.level_epoch
    assert back.result.outcome == outcome.OUTCOME_OK


def owed(ledger: Ledger) -> tuple[str, str, str]:
    """Pays for a reservation whose unit is gone; returns sale, reservation and attempt."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    ledger.must(release(ledger, reservation_id))
    ledger.sold(sale_id)
    attempt_id = new_id("attempt")
    ledger.must(ledger.settle(reservation_id, attempt_id, SUCCEEDED))
    return sale_id, reservation_id, attempt_id


def test_a_late_paid_does_not_reopen_a_refunded_order(ledger: Ledger) -> None:
    """There: a callback sent twice set a refunded order to paid, and goods left unpaid."""
    sale_id, reservation_id, attempt_id = owed(ledger)
    refund = stock.RecordRefundRequest(**by_id(reservation_id), attempt_id=attempt_id)
    ledger.must(ledger.settling.RecordRefund(refund))
    ledger.supply(sale_id, 1)

    late = ledger.settle(reservation_id, attempt_id, SUCCEEDED)

    assert ledger.state(reservation_id) == reservation.STATE_REFUNDED
    assert late.attempt_state == reservation.ATTEMPT_STATE_REFUNDED
    assert ledger.counters(sale_id) == {"supplied": 2, "available": 1, "sold": 1}


def test_a_late_failure_does_not_undo_a_paid_order(ledger: Ledger) -> None:
    """There: callbacks out of order closed a paid order, and its unit was sold again."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = ledger.paying(sale_id)
    ledger.must(ledger.settle(reservation_id, attempt_id, SUCCEEDED))

    late = ledger.settle(reservation_id, attempt_id, FAILED)

    assert late.ignored
    assert ledger.state(reservation_id) == reservation.STATE_CONFIRMED
    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


def test_a_release_is_applied_once(ledger: Ledger) -> None:
    """There: two cancels of one order each added its unit, and stock grew out of nothing."""
    sale_id = ledger.put_sale(units=3)
    reservation_id = ledger.held(sale_id)

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: release(ledger, reservation_id), range(16)))

    found = sorted(reply.result.outcome for reply in replies)
    assert found == sorted([outcome.OUTCOME_OK] + [outcome.OUTCOME_WRONG_STATE] * 15)
    assert ledger.counters(sale_id) == {"supplied": 3, "available": 3}


def test_a_refund_gives_no_unit_back_by_itself(ledger: Ledger) -> None:
    """There: a refund restocked the unit although its buyer kept the goods."""
    sale_id, reservation_id, attempt_id = owed(ledger)
    refund = stock.RecordRefundRequest(**by_id(reservation_id), attempt_id=attempt_id)

    ledger.must(ledger.settling.RecordRefund(refund))

    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


def test_a_refused_reservation_takes_nothing_of_any_line(ledger: Ledger) -> None:
    """There: lines before the one that failed stayed taken."""
    sale_id = ledger.put_sale(units=5)
    pool = admin.PutPoolRequest(
        **ledger.by(), sale_id=sale_id, sku="rare", pool="main", is_offered=True
    )
    ledger.must(ledger.admin.PutPool(pool))

    refused = ledger.reserve(sale_id, lines=[line(2), line(1, sku="rare")])

    assert refused.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert refused.result.sku == "rare"
    assert ledger.counters(sale_id) == {"supplied": 5, "available": 5}


def test_a_refused_message_has_no_partial_effect(ledger: Ledger) -> None:
    """There: the part of a batch before its broken entry was applied, and the retry did it twice.

    A message that is refused as a whole does nothing; one that is served answers each operation.
    """
    sale_id = ledger.put_sale(units=9000)
    request = reserve_request(sale_id)
    many = [stock.Operation(reserve=reserve_request(sale_id)) for _ in range(4097)]
    before = ledger.sequence()

    with pytest.raises(grpc.RpcError) as caught:
        exchange(ledger, *many)
    untouched = ledger.caused_since(before)
    broken = stock.Operation(reserve=reserve_request(sale_id, 0))
    served = exchange(ledger, stock.Operation(reserve=request), broken)
    again = exchange(ledger, stock.Operation(reserve=request), broken)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert untouched == []
    kinds = [reply.WhichOneof("response") for reply in served.replies]
    assert kinds == ["reserve", "fault"]
    assert again.replies[0].reserve.result.replayed
    assert ledger.counters(sale_id) == {"supplied": 9000, "available": 8999, "held": 1}


def test_the_last_unit_is_sold_once_under_a_rush(ledger: Ledger) -> None:
    """There: read, compare, write in three steps let many buyers take the same last unit."""
    sale_id = ledger.put_sale(units=3)

    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda _: ledger.reserve(sale_id), range(64)))

    found = [reply.result.outcome for reply in replies]
    assert found.count(outcome.OUTCOME_OK) == 3
    assert found.count(outcome.OUTCOME_SOLD_OUT) == 61
    assert ledger.counters(sale_id) == {"supplied": 3, "held": 3}


def test_a_person_with_many_requests_at_once_gets_one_reservation(ledger: Ledger) -> None:
    """There: the limit was counted before the order was stored, so a double click bought twice."""
    sale_id = ledger.put_sale(units=64)
    person_id = new_id("person")

    with ThreadPoolExecutor(16) as threads:
        replies = list(
            threads.map(lambda _: ledger.reserve(sale_id, person_id=person_id), range(32))
        )

    served = [reply for reply in replies if reply.result.outcome == outcome.OUTCOME_OK]
    assert len(served) == 1
    assert ledger.counters(sale_id) == {"supplied": 64, "available": 63, "held": 1}


def test_a_count_does_not_overwrite_what_was_sold_meanwhile(ledger: Ledger) -> None:
    """There: an operator's stock count overwrote the sales made since it was begun."""
    sale_id = ledger.put_sale(units=10)
    ledger.sold(sale_id)
    request = admin.AdjustStockRequest(
        **ledger.by(), sale_id=sale_id, sku=SKU, pool="main", expected_available=10, available=12
    )

    refused = ledger.admin.AdjustStock(request)

    assert refused.result.outcome == outcome.OUTCOME_COUNTER_MISMATCH
    assert ledger.counters(sale_id) == {"supplied": 10, "available": 9, "sold": 1}


def test_the_clock_gives_no_unit_back_while_money_is_under_way(rehearsal: Ledger) -> None:
    """There: orders in payment were closed by a timer, and 2,000 units became 5,000 orders."""
    sale_id = rehearsal.put_sale(units=1)
    reservation_id, attempt_id = rehearsal.paying(sale_id)
    advance(rehearsal, reservation_id, seconds=86_400)

    other = rehearsal.reserve(sale_id)
    paid = rehearsal.settle(reservation_id, attempt_id, SUCCEEDED)

    assert other.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert paid.result.state == reservation.STATE_CONFIRMED
    assert rehearsal.counters(sale_id) == {"supplied": 1, "sold": 1}


def test_a_refused_call_leaves_no_trace_under_its_id(ledger: Ledger) -> None:
    """There: an id whose first try was sold out stayed failed for ever, although units came."""
    sale_id = ledger.put_sale()
    request = reserve_request(sale_id)
    refused = ledger.stock.Reserve(request)
    ledger.supply(sale_id, 1)

    served = ledger.stock.Reserve(request)

    assert refused.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert served.result.outcome == outcome.OUTCOME_OK
