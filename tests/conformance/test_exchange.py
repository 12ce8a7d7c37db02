"""Exchange: batches in order, each operation for itself, several messages in flight."""

from __future__ import annotations

import grpc
import pytest

from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import SKU, Ledger, new_id, reserve_request


def reserving(sale_id: str, count: int) -> list[stock.Operation]:
    """Builds Reserve operations for new persons."""
    return [stock.Operation(reserve=reserve_request(sale_id)) for _ in range(count)]


def test_replies_come_in_the_order_of_messages_and_operations(ledger: Ledger) -> None:
    """50 messages of 20 operations are answered in order, and each reply is of its operation."""
    sale_id = ledger.put_sale(units=2000)
    messages = [
        stock.ExchangeRequest(exchange_id=number, operations=reserving(sale_id, 20))
        for number in range(50)
    ]

    responses = list(ledger.stock.Exchange(iter(messages), timeout=30))

    assert [response.exchange_id for response in responses] == list(range(50))
    for response in responses:
        assert len(response.replies) == 20
        assert {reply.reserve.result.outcome for reply in response.replies} == {outcome.OUTCOME_OK}
    places = [reply.reserve.place for response in responses for reply in response.replies]
    numbers = [place.op_number for place in places]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(numbers)
    assert ledger.counters(sale_id)["held"] == 1000


def test_operations_of_one_message_are_decided_in_their_order(ledger: Ledger) -> None:
    """Reserve, pay, settle, read and sell out in one batch see each other's effects."""
    sale_id = ledger.put_sale(units=1)
    reservation_id, attempt_id = new_id("reservation"), new_id("attempt")
    operations = [
        stock.Operation(reserve=reserve_request(sale_id, reservation_id=reservation_id)),
        stock.Operation(reserve=reserve_request(sale_id)),
        stock.Operation(
            begin_payment=stock.BeginPaymentRequest(
                reservation_id=reservation_id, attempt_id=attempt_id
            )
        ),
        stock.Operation(
            settle_payment=stock.SettlePaymentRequest(
                request_id=new_id("request"),
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                payment_result=reservation.PAYMENT_RESULT_SUCCEEDED,
            )
        ),
        stock.Operation(get_reservation=stock.GetReservationRequest(reservation_id=reservation_id)),
        stock.Operation(get_availability=stock.GetAvailabilityRequest(sale_id=sale_id)),
    ]

    [response] = ledger.stock.Exchange(iter([stock.ExchangeRequest(operations=operations)]))

    kinds = [reply.WhichOneof("response") for reply in response.replies]
    assert kinds == [operation.WhichOneof("request") for operation in operations]
    assert response.replies[1].reserve.result.outcome == outcome.OUTCOME_SOLD_OUT
    state = response.replies[4].get_reservation.reservation.state
    assert state == reservation.STATE_CONFIRMED
    assert response.replies[5].get_availability.availabilities[0].counters.sold == 1


def test_settlement_batches_are_served_on_their_own_listener(ledger: Ledger) -> None:
    """Payment facts in an Exchange there are decided; a Reserve in it is a fault by itself."""
    sale_id = ledger.put_sale(units=5)
    reservation_id, attempt_id = ledger.paying(sale_id)
    if ledger.data_address == ledger.settlement_address:
        pytest.skip("the ledger under test has one listener")
    operations = [
        stock.Operation(reserve=reserve_request(sale_id)),
        stock.Operation(
            settle_payment=stock.SettlePaymentRequest(
                request_id=new_id("request"),
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                payment_result=reservation.PAYMENT_RESULT_SUCCEEDED,
            )
        ),
    ]

    [response] = ledger.settling.Exchange(iter([stock.ExchangeRequest(operations=operations)]))

    fault = response.replies[0].fault
    assert fault.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert fault.reason == "WRONG_LISTENER"
    settled = response.replies[1].settle_payment.result
    assert settled.state == reservation.STATE_CONFIRMED
    assert ledger.counters(sale_id) == {"supplied": 5, "available": 4, "sold": 1}


def test_a_repeated_batch_has_one_effect(ledger: Ledger) -> None:
    """The same message again gives replayed replies and takes no unit."""
    sale_id = ledger.put_sale(units=50)
    message = stock.ExchangeRequest(operations=reserving(sale_id, 10))

    first, second = ledger.stock.Exchange(iter([message, message]))

    assert not any(reply.reserve.result.replayed for reply in first.replies)
    assert all(reply.reserve.result.replayed for reply in second.replies)
    assert ledger.counters(sale_id)["held"] == 10


def test_a_full_batch_is_served(ledger: Ledger) -> None:
    """4,096 reservations in one message hold 4,096 units, each once."""
    sale_id = ledger.put_sale(units=5000)
    message = stock.ExchangeRequest(operations=reserving(sale_id, 4096))

    [response] = ledger.stock.Exchange(iter([message]), timeout=30)

    outcomes = [reply.reserve.result.outcome for reply in response.replies]
    admitted = outcomes.count(outcome.OUTCOME_OK)
    shed = sum(reply.fault.reason == "RATE_LANE" for reply in response.replies)
    assert admitted + shed == 4096
    assert admitted > 0
    assert ledger.counters(sale_id)["held"] == admitted


def test_an_exchange_without_messages_ends(ledger: Ledger) -> None:
    """A stream that says nothing is closed with OK."""
    assert list(ledger.stock.Exchange(iter([]), timeout=10)) == []


def test_lines_of_a_batch_reply_name_their_pools(ledger: Ledger) -> None:
    """A reply in a batch carries what the unary reply carries."""
    sale_id = ledger.put_sale(units=3)

    [response] = ledger.stock.Exchange(
        iter([stock.ExchangeRequest(operations=reserving(sale_id, 1))])
    )

    taken = response.replies[0].reserve.taken
    assert [(row.sku, row.pool, row.units) for row in taken] == [(SKU, "main", 1)]
