"""The life of a reservation over the wire: happy paths and refusals."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import sale_pb2 as sale
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import SKU, Ledger, new_id, reserve_request


def line(units: int, *, sku: str = SKU, pool: str = "") -> reservation.Line:
    """Builds one line."""
    return reservation.Line(sku=sku, pool=pool, units=units)


def by_id(reservation_id: str) -> dict[str, Any]:
    """Returns what most settling requests carry."""
    return {"request_id": new_id("request"), "reservation_id": reservation_id}


def test_reserve_holds_units_and_says_until_when(ledger: Ledger) -> None:
    """Available units move to held; the reply names pools and the time."""
    sale_id = ledger.put_sale(units=10)

    reply = ledger.must(ledger.reserve(sale_id, 3))

    assert reply.result.state == reservation.STATE_HELD
    assert reply.HasField("expire_time")
    assert [(taken.pool, taken.units) for taken in reply.taken] == [("main", 3)]
    assert ledger.counters(sale_id) == {"supplied": 10, "available": 7, "held": 3}


def test_a_line_draws_on_pools_in_their_order(ledger: Ledger) -> None:
    """Four units come from the first pool as far as it goes, then from the second."""
    sale_id = ledger.put_sale(units=3, pools=("first", "second"))
    ledger.supply(sale_id, 5, pool="second")

    reply = ledger.must(ledger.reserve(sale_id, 4))

    assert [(taken.pool, taken.units) for taken in reply.taken] == [("first", 3), ("second", 1)]


def test_two_lines_of_one_sku_are_summed(ledger: Ledger) -> None:
    """Two lines of three do not fit into five units, and nothing is taken."""
    sale_id = ledger.put_sale(units=5)

    reply = ledger.reserve(sale_id, lines=[line(3), line(3)])

    assert reply.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert ledger.counters(sale_id) == {"supplied": 5, "available": 5}


def test_sold_out_says_whether_units_may_come_back(ledger: Ledger) -> None:
    """Held units may come back, with a time; sold ones do not."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)
    held_out = ledger.reserve(sale_id)
    ledger.must(ledger.settling.Confirm(stock.ConfirmRequest(**by_id(reservation_id))))
    gone = ledger.reserve(sale_id)

    assert held_out.result.outcome == gone.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert held_out.result.sku == SKU
    assert held_out.result.HasField("come_back_time")
    assert held_out.result.level != gone.result.level


def test_reserve_is_refused_for_what_is_not_there(ledger: Ledger) -> None:
    """Unknown sale, sku and pool each have their outcome, and the sku is named."""
    sale_id = ledger.put_sale(units=5)

    no_sale = ledger.reserve(new_id("sale"))
    no_sku = ledger.reserve(sale_id, lines=[line(1, sku="other")])
    no_pool = ledger.reserve(sale_id, lines=[line(1, pool="other")])

    assert no_sale.result.outcome == outcome.OUTCOME_UNKNOWN_SALE
    assert (no_sku.result.outcome, no_sku.result.sku) == (outcome.OUTCOME_UNKNOWN_SKU, "other")
    assert (no_pool.result.outcome, no_pool.result.sku) == (outcome.OUTCOME_UNKNOWN_POOL, SKU)


def test_limits_count_the_person(ledger: Ledger) -> None:
    """The limit that refused is named; another person is served."""
    sale_id = ledger.put_sale(units=10, units_per_person_max=2)
    person_id = new_id("person")
    ledger.held(sale_id, 1, person_id=person_id)

    unpaid = ledger.reserve(sale_id, 1, person_id=person_id)
    too_many = ledger.reserve(sale_id, 3)

    assert unpaid.result.outcome == outcome.OUTCOME_LIMIT_REACHED
    assert unpaid.result.limit == "unpaid_reservations_per_person_max"
    assert too_many.result.outcome == outcome.OUTCOME_LIMIT_REACHED
    assert too_many.result.limit == "units_per_person_max"


def test_a_late_duplicate_is_harmless(ledger: Ledger) -> None:
    """A new reservation past its `not_after_time` is TOO_LATE."""
    sale_id = ledger.put_sale(units=1)

    reply = ledger.reserve(sale_id, not_after_time=Timestamp(seconds=1))

    assert reply.result.outcome == outcome.OUTCOME_TOO_LATE


def test_a_sale_out_of_its_time_refuses(ledger: Ledger) -> None:
    """Paused is not now, closed is never."""
    sale_id = ledger.put_sale(units=1)
    found = []
    for state in (sale.SALE_STATE_PAUSED, sale.SALE_STATE_CLOSED):
        request = admin.SetSaleStateRequest(**ledger.by(), sale_id=sale_id, state=state)
        ledger.must(ledger.admin.SetSaleState(request))
        found.append(ledger.reserve(sale_id).result.outcome)

    assert found == [outcome.OUTCOME_SALE_NOT_OPEN, outcome.OUTCOME_SALE_CLOSED]


def test_release_gives_units_back(ledger: Ledger) -> None:
    """A held reservation is released at once; a second release is WRONG_STATE."""
    sale_id = ledger.put_sale(units=2)
    reservation_id = ledger.held(sale_id, 2)
    reason = reservation.RELEASE_REASON_CLIENT

    first = ledger.settling.Release(
        stock.ReleaseRequest(**by_id(reservation_id), release_reason=reason)
    )
    second = ledger.settling.Release(
        stock.ReleaseRequest(**by_id(reservation_id), release_reason=reason)
    )

    assert first.result.state == reservation.STATE_RELEASED
    assert not first.release_requested
    assert second.result.outcome == outcome.OUTCOME_WRONG_STATE
    assert second.result.state == reservation.STATE_RELEASED
    assert ledger.counters(sale_id) == {"supplied": 2, "available": 2}


def test_confirm_sells_without_a_payment(ledger: Ledger) -> None:
    """Held becomes sold; a confirmed reservation can't be confirmed under another id."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.sold(sale_id)

    again = ledger.settling.Confirm(stock.ConfirmRequest(**by_id(reservation_id)))

    assert again.result.outcome == outcome.OUTCOME_WRONG_STATE
    assert ledger.counters(sale_id) == {"supplied": 1, "sold": 1}


def test_extend_prolongs_up_to_the_longest_life(ledger: Ledger) -> None:
    """An extension inside the longest life moves the time, one past it is TOO_LATE."""
    sale_id = ledger.put_sale(units=1)
    reservation_id = ledger.held(sale_id)

    fine = ledger.settling.Extend(
        stock.ExtendRequest(**by_id(reservation_id), extension=Duration(seconds=1200))
    )
    late = ledger.settling.Extend(
        stock.ExtendRequest(**by_id(reservation_id), extension=Duration(seconds=1900))
    )

    assert fine.result.outcome == outcome.OUTCOME_OK
    assert fine.HasField("expire_time")
    assert late.result.outcome == outcome.OUTCOME_TOO_LATE


def test_returned_units_can_be_sold_again(ledger: Ledger) -> None:
    """RESELL makes units available, QUARANTINE keeps them apart, no more than sold returns."""
    sale_id = ledger.put_sale(units=3)
    reservation_id = ledger.sold(sale_id, 3)

    def back(units: int, disposition: Any) -> Any:
        request = stock.ReturnRequest(
            **by_id(reservation_id), sku=SKU, units=units, disposition=disposition
        )
        return ledger.settling.Return(request)

    resold = back(1, reservation.DISPOSITION_RESELL)
    too_many = back(3, reservation.DISPOSITION_RESELL)
    last = back(2, reservation.DISPOSITION_QUARANTINE)

    assert (resold.result.outcome, resold.returned_units) == (outcome.OUTCOME_OK, 1)
    assert too_many.result.outcome == outcome.OUTCOME_NOT_ENOUGH_UNITS
    assert last.result.state == reservation.STATE_RETURNED
    assert ledger.counters(sale_id) == {"supplied": 3, "available": 1, "quarantine": 2}


def test_an_unknown_reservation_is_told_by_every_method(ledger: Ledger) -> None:
    """Each method that names a reservation answers UNKNOWN_RESERVATION."""
    nobody = new_id("reservation")
    replies = [
        ledger.begin(nobody, new_id("attempt")),
        ledger.settle(nobody, new_id("attempt"), reservation.PAYMENT_RESULT_SUCCEEDED),
        ledger.settling.Confirm(stock.ConfirmRequest(**by_id(nobody))),
        ledger.settling.Release(
            stock.ReleaseRequest(**by_id(nobody), release_reason=reservation.RELEASE_REASON_CLIENT)
        ),
        ledger.settling.Extend(stock.ExtendRequest(**by_id(nobody), extension=Duration(seconds=1))),
        ledger.settling.Return(
            stock.ReturnRequest(
                **by_id(nobody), sku=SKU, units=1, disposition=reservation.DISPOSITION_RESELL
            )
        ),
        ledger.settling.RecordRefund(
            stock.RecordRefundRequest(**by_id(nobody), attempt_id=new_id("attempt"))
        ),
        ledger.stock.GetReservation(stock.GetReservationRequest(reservation_id=nobody)),
    ]

    found = {type(reply).__name__: reply.result.outcome for reply in replies}
    assert set(found.values()) == {outcome.OUTCOME_UNKNOWN_RESERVATION}, found


def test_reservations_are_listed_page_by_page(ledger: Ledger) -> None:
    """Seven reservations come in pages of three, each once, in the order they were made."""
    sale_id = ledger.put_sale(units=10)
    made = [ledger.held(sale_id) for _ in range(7)]
    ledger.must(ledger.settling.Confirm(stock.ConfirmRequest(**by_id(made[2]))))
    seen: list[str] = []
    token = ""
    while True:
        page = ledger.must(
            ledger.stock.ListReservations(
                stock.ListReservationsRequest(sale_id=sale_id, page_size=3, page_token=token)
            )
        )
        assert len(page.reservations) <= 3
        seen += [row.reservation_id for row in page.reservations]
        token = page.next_page_token
        if not token:
            break
    sold = ledger.stock.ListReservations(
        stock.ListReservationsRequest(
            sale_id=sale_id, page_size=10, state=reservation.STATE_CONFIRMED
        )
    )

    assert seen == made
    assert [row.reservation_id for row in sold.reservations] == [made[2]]


def test_a_reservation_is_shown_as_it_was_made(ledger: Ledger) -> None:
    """Lines, person, pools and times of a Reserve are what GetReservation shows."""
    sale_id = ledger.put_sale(units=5)
    request = reserve_request(sale_id, 2)
    reply = ledger.must(ledger.stock.Reserve(request))

    shown = ledger.stock.GetReservation(
        stock.GetReservationRequest(reservation_id=request.reservation_id)
    ).reservation

    assert shown.sale_id == sale_id
    assert shown.person_id == request.person_id
    assert list(shown.lines) == list(request.lines)
    assert shown.expire_time == reply.expire_time
    assert [taken.units for taken in shown.taken] == [2]


def test_availability_of_the_unknown_is_an_outcome(ledger: Ledger) -> None:
    """Unknown sale and sku are told apart."""
    sale_id = ledger.put_sale(units=1)
    no_sale = ledger.stock.GetAvailability(stock.GetAvailabilityRequest(sale_id=new_id("sale")))
    no_sku = ledger.stock.GetAvailability(
        stock.GetAvailabilityRequest(sale_id=sale_id, skus=["other"])
    )

    assert no_sale.result.outcome == outcome.OUTCOME_UNKNOWN_SALE
    assert no_sku.result.outcome == outcome.OUTCOME_UNKNOWN_SKU
