"""What operators do: sales, pools, stock, persons, brake, audit, explanations."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.admission.v1 import admission_service_pb2 as admission
from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import sale_pb2 as sale
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import POOL, SKU, Ledger, new_id


def at(sale_id: str, pool: str = POOL) -> dict[str, Any]:
    """Returns what names a pool."""
    return {"sale_id": sale_id, "sku": SKU, "pool": pool}


def pool_counters(ledger: Ledger, sale_id: str) -> dict[str, dict[str, int]]:
    """Returns the counters that are not zero, by pool."""
    request = stock.GetAvailabilityRequest(sale_id=sale_id)
    [shown] = ledger.stock.GetAvailability(request).availabilities
    return {
        pool.pool: {field.name: value for field, value in pool.counters.ListFields()}
        for pool in shown.pools
    }


def test_a_sale_is_changed_by_its_revision(ledger: Ledger) -> None:
    """PutSale counts revisions, and refuses a change that expects another one."""
    sale_id = new_id("sale")

    def put(**fields: Any) -> Any:
        policy = sale.SalePolicy()
        request = admin.PutSaleRequest(**ledger.by(), sale_id=sale_id, policy=policy, **fields)
        return ledger.admin.PutSale(request)

    first = ledger.must(put())
    second = ledger.must(put(expected_revision=1))
    stale = put(expected_revision=1)

    assert (first.revision, second.revision) == (1, 2)
    assert stale.result.outcome == outcome.OUTCOME_COUNTER_MISMATCH


def test_stock_moves_between_its_places(ledger: Ledger) -> None:
    """Each move shows in the pools; a move between them leaves one and enters the other."""
    sale_id = ledger.put_sale(units=10, pools=("main", "side"))
    ledger.supply(sale_id, 5, is_buffer=True)
    by, a = ledger.by, ledger.admin
    ledger.must(a.WithdrawStock(admin.WithdrawStockRequest(**by(), **at(sale_id), units=3)))
    move = {"sale_id": sale_id, "sku": SKU, "source_pool": "main", "target_pool": "side"}
    ledger.must(a.MoveStock(admin.MoveStockRequest(**by(), **move, units=2)))
    ledger.must(a.PourBuffer(admin.PourBufferRequest(**by(), **at(sale_id), units=4)))

    assert pool_counters(ledger, sale_id) == {
        "main": {"supplied": 15, "withdrawn": 5, "available": 9, "buffer": 1},
        "side": {"supplied": 2, "available": 2},
    }


def test_more_than_there_is_can_not_be_moved(ledger: Ledger) -> None:
    """Withdraw, move and pour past what is there are NOT_ENOUGH_UNITS."""
    sale_id = ledger.put_sale(units=1, pools=("main", "side"))
    by, a = ledger.by, ledger.admin
    move = {"sale_id": sale_id, "sku": SKU, "source_pool": "main", "target_pool": "side"}

    replies: list[Any] = [
        a.WithdrawStock(admin.WithdrawStockRequest(**by(), **at(sale_id), units=2)),
        a.MoveStock(admin.MoveStockRequest(**by(), **move, units=2)),
        a.PourBuffer(admin.PourBufferRequest(**by(), **at(sale_id), units=1)),
    ]

    assert {reply.result.outcome for reply in replies} == {outcome.OUTCOME_NOT_ENOUGH_UNITS}
    assert ledger.counters(sale_id) == {"supplied": 1, "available": 1}


def test_a_count_is_set_only_over_the_value_that_was_seen(ledger: Ledger) -> None:
    """AdjustStock compares and sets; a stale view is COUNTER_MISMATCH."""
    sale_id = ledger.put_sale(units=10)

    def adjust(expected: int, available: int) -> Any:
        request = admin.AdjustStockRequest(
            **ledger.by(), **at(sale_id), expected_available=expected, available=available
        )
        return ledger.admin.AdjustStock(request)

    up = adjust(10, 12)
    stale = adjust(10, 5)
    down = adjust(12, 9)

    assert up.result.outcome == down.result.outcome == outcome.OUTCOME_OK
    assert stale.result.outcome == outcome.OUTCOME_COUNTER_MISMATCH
    assert ledger.counters(sale_id) == {"supplied": 12, "written_off": 3, "available": 9}


def test_stock_of_the_unknown_is_refused(ledger: Ledger) -> None:
    """Unknown sale and unknown pool are told apart."""
    sale_id = ledger.put_sale()
    supply = ledger.admin.SupplyStock

    no_sale = supply(admin.SupplyStockRequest(**ledger.by(), **at(new_id("sale")), units=1))
    no_pool = supply(admin.SupplyStockRequest(**ledger.by(), **at(sale_id, "other"), units=1))

    assert no_sale.result.outcome == outcome.OUTCOME_UNKNOWN_SALE
    assert no_pool.result.outcome == outcome.OUTCOME_UNKNOWN_POOL


def test_a_pool_that_is_not_offered_is_not_drawn_on(ledger: Ledger) -> None:
    """Its units are kept for whoever names it, or for nobody."""
    sale_id = ledger.put_sale(units=1)
    hidden = admin.PutPoolRequest(**ledger.by(), **at(sale_id), is_offered=False)
    ledger.must(ledger.admin.PutPool(hidden))

    assert ledger.reserve(sale_id).result.outcome == outcome.OUTCOME_SOLD_OUT


def test_a_cancelled_sale_gives_held_units_back(ledger: Ledger) -> None:
    """HELD is released, in portions by the node's timer; CONFIRMED is untouched."""
    sale_id = ledger.put_sale(units=2)
    held, sold = ledger.held(sale_id), ledger.sold(sale_id)
    cancel = admin.SetSaleStateRequest(
        **ledger.by(), sale_id=sale_id, state=sale.SALE_STATE_CANCELLED
    )

    reply = ledger.must(ledger.admin.SetSaleState(cancel))

    assert reply.sale_state == sale.SALE_STATE_CANCELLED
    ledger.wait_for_state(held, reservation.STATE_RELEASED)
    assert ledger.state(sold) == reservation.STATE_CONFIRMED


def test_merged_persons_share_one_limit(ledger: Ledger) -> None:
    """What the source has counts against the target."""
    sale_id = ledger.put_sale(units=5)
    source, target = new_id("person"), new_id("person")
    ledger.held(sale_id, person_id=source)
    merge = admin.MergePersonsRequest(
        **ledger.by(), source_person_id=source, target_person_id=target
    )
    ledger.must(ledger.admin.MergePersons(merge))

    refused = ledger.reserve(sale_id, person_id=target)

    assert refused.result.outcome == outcome.OUTCOME_LIMIT_REACHED


def test_split_persons_have_limits_of_their_own(ledger: Ledger) -> None:
    """Each has what they reserved, also while they were merged; the one that stays may buy."""
    sale_id = ledger.put_sale(units=5)
    source, target = new_id("person"), new_id("person")
    merge = admin.MergePersonsRequest(
        **ledger.by(), source_person_id=source, target_person_id=target
    )
    ledger.must(ledger.admin.MergePersons(merge))
    ledger.held(sale_id, person_id=source)
    split = admin.SplitPersonsRequest(**ledger.by(), person_ids=[source])

    ledger.must(ledger.admin.SplitPersons(split))

    ledger.held(sale_id, person_id=target)
    refused = ledger.reserve(sale_id, person_id=source)
    assert refused.result.outcome == outcome.OUTCOME_LIMIT_REACHED
    assert ledger.must(ledger.admin.SplitPersons(split)).result.replayed


def test_only_persons_who_count_together_are_split(ledger: Ledger) -> None:
    """Two strangers are refused, and so is one who is named twice."""
    first, second = new_id("person"), new_id("person")

    for names in ([first, second], [first, first]):
        split = admin.SplitPersonsRequest(**ledger.by(), person_ids=names)
        refused = ledger.admin.SplitPersons(split).result

        assert (refused.outcome, refused.limit) == (outcome.OUTCOME_NOT_ALLOWED, "person_ids")


def test_the_expiry_brake_is_set_and_let_go(ledger: Ledger) -> None:
    """Both moves are journaled."""
    until = Timestamp(seconds=4_000_000_000)
    on = admin.SetExpiryBrakeRequest(**ledger.by(), is_on=True, until_time=until)
    off = admin.SetExpiryBrakeRequest(**ledger.by(), is_on=False)

    places = [ledger.must(ledger.admin.SetExpiryBrake(request)).place for request in (on, off)]

    assert 0 < places[0].sequence < places[1].sequence


def test_an_audit_holds_and_counts(ledger: Ledger) -> None:
    """Every invariant holds, and the sale's pool stands in the list."""
    sale_id = ledger.put_sale(units=7)
    ledger.held(sale_id, 2)

    audit = ledger.admin.Audit(admin.AuditRequest())

    assert audit.holds
    assert list(audit.findings) == []
    [pool] = [row for row in audit.pools if row.sale_id == sale_id]
    assert (pool.counters.supplied, pool.counters.available, pool.counters.held) == (7, 5, 2)
    counted = {row.state: row.count for row in audit.reservation_counts}
    assert counted[reservation.STATE_HELD] >= 1


def test_a_reservation_is_explained_move_by_move(ledger: Ledger) -> None:
    """Each transition names its event, states and cause, in order."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = ledger.paying(sale_id)
    ledger.must(ledger.settle(reservation_id, attempt_id, reservation.PAYMENT_RESULT_SUCCEEDED))

    request = admin.ExplainReservationRequest(reservation_id=reservation_id)
    told = ledger.must(ledger.admin.ExplainReservation(request)).transitions
    unknown = ledger.admin.ExplainReservation(
        admin.ExplainReservationRequest(reservation_id=new_id("reservation"))
    )

    states = [reservation.STATE_HELD, reservation.STATE_PAYING, reservation.STATE_CONFIRMED]
    assert [move.state_to for move in told] == states
    assert [move.state_from for move in told] == [0, *states[:-1]]
    assert [move.event for move in told] == ["Reserved", "PaymentBegun", "PaymentSettled"]
    assert sorted(move.sequence for move in told) == [move.sequence for move in told]
    assert unknown.result.outcome == outcome.OUTCOME_UNKNOWN_RESERVATION


def test_a_repeated_admin_call_has_one_effect(ledger: Ledger) -> None:
    """The same request id supplies once; other content under it is a CONFLICT."""
    sale_id = ledger.put_sale()
    request = admin.SupplyStockRequest(**ledger.by(), **at(sale_id), units=3)

    first = ledger.admin.SupplyStock(request)
    again = ledger.admin.SupplyStock(request)
    request.units = 4
    other = ledger.admin.SupplyStock(request)

    assert (first.result.replayed, again.result.replayed) == (False, True)
    assert other.result.outcome == outcome.OUTCOME_CONFLICT
    assert other.result.conflict_field == "units"
    assert ledger.counters(sale_id) == {"supplied": 3, "available": 3}


def test_admission_shows_policy_and_counts(ledger: Ledger) -> None:
    """What was offered is what was admitted and refused, in every lane."""
    policy = ledger.admission.GetPolicy(admission.GetPolicyRequest())
    stats = ledger.admission.GetAdmissionStats(admission.GetAdmissionStatsRequest(page_size=1000))

    lanes = [
        admission.LANE_CONTROL,
        admission.LANE_SETTLEMENT,
        admission.LANE_RESERVATION,
        admission.LANE_READ,
    ]
    assert [lane.lane for lane in policy.lanes] == lanes
    assert policy.version == policy.revision.revision <= policy.last_revision
    assert not policy.lanes[1].HasField("bucket")
    assert [lane.lane for lane in stats.lanes] == lanes
    for counts in (*stats.lanes, *stats.callers):
        assert counts.offered_count == counts.admitted_count + counts.refused_count
    assert stats.lanes[1].admitted_count > 0
