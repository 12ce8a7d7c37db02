"""Ids make every mutation safe to repeat: one effect, equal answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration

from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

from .kit import SKU, Ledger, new_id, reserve_request, without_place

if TYPE_CHECKING:
    from collections.abc import Callable

DUPLICATES = 1000


def duplicated(ledger: Ledger, request: stock.ReserveRequest) -> list[Any]:
    """Sends one Reserve many times at once, over four connections."""
    channels = [ledger.access.channel(ledger.data_address) for _ in range(4)]
    stubs = [StockServiceStub(channel) for channel in channels]
    calls = [stubs[i % len(stubs)].Reserve.future(request, timeout=30) for i in range(DUPLICATES)]
    replies = [call.result() for call in calls]
    for channel in channels:
        channel.close()
    return replies


def test_1000_concurrent_duplicates_have_one_effect(ledger: Ledger) -> None:
    """1,000 equal replies, `replayed` on 999 of them, one unit held."""
    sale_id = ledger.put_sale(units=5)

    replies = duplicated(ledger, reserve_request(sale_id))

    assert {reply.result.outcome for reply in replies} == {outcome.OUTCOME_OK}
    assert sum(reply.result.replayed for reply in replies) == DUPLICATES - 1
    assert (
        len({without_place(reply).SerializeToString(deterministic=True) for reply in replies}) == 1
    )
    assert len({reply.place.sequence for reply in replies}) == 1
    assert ledger.counters(sale_id) == {"supplied": 5, "available": 4, "held": 1}


def test_duplicates_that_race_for_the_last_unit_get_it(ledger: Ledger) -> None:
    """Every duplicate of the request that took the last unit gets that unit."""
    sale_id = ledger.put_sale(units=1)

    replies = duplicated(ledger, reserve_request(sale_id))

    assert {reply.result.outcome for reply in replies} == {outcome.OUTCOME_OK}
    assert ledger.counters(sale_id) == {"supplied": 1, "held": 1}


def test_the_retry_of_the_last_unit_gets_its_unit(ledger: Ledger) -> None:
    """The id is looked up before stock and limits: sold out for others, not for the retry."""
    sale_id = ledger.put_sale(units=1)
    request = reserve_request(sale_id)
    first = ledger.must(ledger.stock.Reserve(request))

    other = ledger.reserve(sale_id)
    retry = ledger.stock.Reserve(request)

    assert other.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert retry.result.replayed
    assert not first.result.replayed
    assert without_place(retry) == without_place(first)
    assert retry.place.sequence == first.place.sequence


def test_a_refusal_is_not_remembered(ledger: Ledger) -> None:
    """The same id that was refused as SOLD_OUT succeeds when units come."""
    sale_id = ledger.put_sale()
    request = reserve_request(sale_id)

    refused = ledger.stock.Reserve(request)
    ledger.supply(sale_id, 1)
    served = ledger.stock.Reserve(request)

    assert refused.result.outcome == outcome.OUTCOME_SOLD_OUT
    assert served.result.outcome == outcome.OUTCOME_OK
    assert not served.result.replayed


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("person_id", lambda request: setattr(request, "person_id", "somebody-else")),
        ("sale_id", lambda request: setattr(request, "sale_id", "another-sale")),
        ("lines", lambda request: setattr(request.lines[0], "units", 2)),
        ("ttl", lambda request: request.ttl.FromSeconds(5)),
    ],
)
def test_another_content_under_one_id_is_a_conflict(
    ledger: Ledger, field: str, change: Callable[[Any], None]
) -> None:
    """CONFLICT names the field that differs, and nothing changes."""
    sale_id = ledger.put_sale(units=5)
    request = reserve_request(sale_id)
    ledger.must(ledger.stock.Reserve(request))
    change(request)

    reply = ledger.stock.Reserve(request)

    assert reply.result.outcome == outcome.OUTCOME_CONFLICT
    assert reply.result.conflict_field.startswith(field)
    assert ledger.counters(sale_id) == {"supplied": 5, "available": 4, "held": 1}


def settling_calls(ledger: Ledger) -> dict[str, tuple[Any, Any]]:
    """Returns each settling method with a request that succeeds, once."""
    sale_id = ledger.put_sale(units=50)
    paying, attempt_id = ledger.paying(sale_id)
    owed = ledger.sold(sale_id)
    owed_attempt = new_id("attempt")
    ledger.must(ledger.settle(owed, owed_attempt, reservation.PAYMENT_RESULT_SUCCEEDED))
    made: dict[str, Any] = {"request_id": new_id("request")}

    def request() -> dict[str, Any]:
        return {"request_id": new_id("request")}

    calls = ledger.settling
    return {
        "BeginPayment": (
            calls.BeginPayment,
            stock.BeginPaymentRequest(
                reservation_id=ledger.held(sale_id), attempt_id=new_id("attempt")
            ),
        ),
        "SettlePayment": (
            calls.SettlePayment,
            stock.SettlePaymentRequest(
                **made,
                reservation_id=paying,
                attempt_id=attempt_id,
                payment_result=reservation.PAYMENT_RESULT_SUCCEEDED,
            ),
        ),
        "Confirm": (
            calls.Confirm,
            stock.ConfirmRequest(**request(), reservation_id=ledger.held(sale_id)),
        ),
        "Release": (
            calls.Release,
            stock.ReleaseRequest(
                **request(),
                reservation_id=ledger.held(sale_id),
                release_reason=reservation.RELEASE_REASON_CLIENT,
            ),
        ),
        "Extend": (
            calls.Extend,
            stock.ExtendRequest(
                **request(),
                reservation_id=ledger.held(sale_id),
                extension=Duration(seconds=700),
            ),
        ),
        "Return": (
            calls.Return,
            stock.ReturnRequest(
                **request(),
                reservation_id=ledger.sold(sale_id),
                sku=SKU,
                units=1,
                disposition=reservation.DISPOSITION_RESELL,
            ),
        ),
        "RecordRefund": (
            calls.RecordRefund,
            stock.RecordRefundRequest(**request(), reservation_id=owed, attempt_id=owed_attempt),
        ),
    }


@pytest.mark.parametrize(
    "method",
    ["BeginPayment", "SettlePayment", "Confirm", "Release", "Extend", "Return", "RecordRefund"],
)
def test_a_repeated_settling_call_gives_the_first_answer(ledger: Ledger, method: str) -> None:
    """The second answer equals the first but for `replayed`, and writes no event."""
    call, request = settling_calls(ledger)[method]

    first = ledger.must(call(request, timeout=10))
    before = ledger.sequence()
    second = call(request, timeout=10)

    assert second.result.replayed
    assert without_place(second) == without_place(first)
    assert second.place.sequence == first.place.sequence
    assert ledger.caused_since(before) == []
