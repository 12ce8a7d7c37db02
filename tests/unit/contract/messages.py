"""Owns one filled message of each request and of some responses, by name.

Their bytes are kept in `core_rs/wire/tests/golden.txt`, where the Rust side reads and writes the
same. Must not use random values or the clock. Next: `test_golden.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.stock.v1 import (
    availability_pb2,
    fault_pb2,
    journal_service_pb2,
    outcome_pb2,
    place_pb2,
    rehearsal_service_pb2,
    reservation_pb2,
    sale_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

HEAD: Final = {"request_id": "q-1", "actor": "ann", "reason": "because"}
POOL: Final = {"sale_id": "s-1", "sku": "sku-1", "pool": "p-1"}
PLACE: Final = place_pb2.Place(
    sequence=41,
    as_of_sequence=42,
    durable_sequence=43,
    op_number=44,
    epoch=2,
    durability=place_pb2.DURABILITY_FLUSHED,
)
OPENS: Final = Timestamp(seconds=1_700_000_000, nanos=250_000_000)
CLOSES: Final = Timestamp(seconds=1_700_000_600)


def list_stock_requests() -> dict[str, Message]:
    """Gives a filled request of each unary method of StockService, by the method's name."""
    stock = stock_service_pb2
    named = {"request_id": "q-1", "reservation_id": "r-1"}
    return {
        "Reserve": stock.ReserveRequest(
            reservation_id="r-1",
            sale_id="s-1",
            person_id="person-with-a-name-longer-than-23-bytes",
            lines=[
                reservation_pb2.Line(sku="sku-1", units=2),
                reservation_pb2.Line(sku="sku-2", pool="p-1", units=1_000_000),
            ],
            ttl=Duration(seconds=90, nanos=500_000_000),
            not_after_time=OPENS,
        ),
        "BeginPayment": stock.BeginPaymentRequest(
            reservation_id="r-1",
            attempt_id="r-1:1",
            provider="sandbox",
            amount_minor=0,
            currency="EUR",
        ),
        "SettlePayment": stock.SettlePaymentRequest(
            **named,
            attempt_id="r-1:1",
            payment_result=reservation_pb2.PAYMENT_RESULT_FAILED,
            occurred_time=OPENS,
            evidence="événement 7",
        ),
        "Confirm": stock.ConfirmRequest(**named),
        "Release": stock.ReleaseRequest(
            **named, release_reason=reservation_pb2.RELEASE_REASON_OPERATOR
        ),
        "Extend": stock.ExtendRequest(**named, extension=Duration(nanos=1_000_000)),
        "Return": stock.ReturnRequest(
            **named,
            sku="sku-1",
            units=3,
            disposition=reservation_pb2.DISPOSITION_QUARANTINE,
            give_limit_back=False,
        ),
        "RecordRefund": stock.RecordRefundRequest(**named, attempt_id="r-1:1", evidence="e-1"),
        "GetReservation": stock.GetReservationRequest(reservation_id="r-1"),
        "ListReservations": stock.ListReservationsRequest(
            sale_id="s-1",
            state=reservation_pb2.STATE_OVERDUE,
            page_size=1000,
            page_token="1.77",
        ),
        "GetAvailability": stock.GetAvailabilityRequest(sale_id="s-1", skus=["sku-2", "sku-1"]),
        "WatchAvailability": stock.WatchAvailabilityRequest(sale_id="s-1", after_sequence=9),
    }


def list_admin_requests() -> dict[str, Message]:
    """Gives a filled request of each method of the other services, by the method's name."""
    admin = stock_admin_service_pb2
    return {
        "PutSale": admin.PutSaleRequest(
            **HEAD,
            sale_id="s-1",
            opens_time=OPENS,
            closes_time=CLOSES,
            policy=sale_pb2.SalePolicy(
                retry_grace=Duration(),
                units_per_person_max=5,
                unpaid_reservations_per_person_max=0,
                low_level_percent=0,
                is_unverified_release_allowed=True,
            ),
            expected_revision=0,
        ),
        "SetSaleState": admin.SetSaleStateRequest(
            **HEAD, sale_id="s-1", state=sale_pb2.SALE_STATE_PAUSED
        ),
        "PutPool": admin.PutPoolRequest(
            **HEAD, **POOL, position=7, labels={"tier": "b", "city": "Köln"}, is_offered=True
        ),
        "SupplyStock": admin.SupplyStockRequest(**HEAD, **POOL, units=2000, is_buffer=False),
        "WithdrawStock": admin.WithdrawStockRequest(**HEAD, **POOL, units=5, is_buffer=True),
        "AdjustStock": admin.AdjustStockRequest(
            **HEAD, **POOL, expected_available=0, available=1_000_000_000_000
        ),
        "MoveStock": admin.MoveStockRequest(
            **HEAD, sale_id="s-1", sku="sku-1", source_pool="p-1", target_pool="p-2", units=6
        ),
        "PourBuffer": admin.PourBufferRequest(**HEAD, **POOL, units=8),
        "ReleaseUnverified": admin.ReleaseUnverifiedRequest(**HEAD, reservation_id="r-1"),
        "MergePersons": admin.MergePersonsRequest(
            **HEAD, source_person_id="x", target_person_id="y"
        ),
        "SplitPersons": admin.SplitPersonsRequest(**HEAD, person_ids=["y", "x"]),
        "SetExpiryBrake": admin.SetExpiryBrakeRequest(**HEAD, is_on=True, until_time=CLOSES),
        "Audit": admin.AuditRequest(),
        "ExplainReservation": admin.ExplainReservationRequest(reservation_id="r-1"),
        "ReadEvents": journal_service_pb2.ReadEventsRequest(
            after_sequence=12, follow=True, page_size=4096
        ),
        "SetClock": rehearsal_service_pb2.SetClockRequest(now_time=CLOSES),
    }


def make_exchange() -> stock_service_pb2.ExchangeRequest:
    """Gives a batch: a valid operation, an invalid one, one without a request."""
    request = list_stock_requests()["Return"]
    assert isinstance(request, stock_service_pb2.ReturnRequest)
    return stock_service_pb2.ExchangeRequest(
        exchange_id=-3,
        operations=[
            stock_service_pb2.Operation(return_units=request),
            stock_service_pb2.Operation(
                confirm=stock_service_pb2.ConfirmRequest(request_id="a b", reservation_id="r-1")
            ),
            stock_service_pb2.Operation(),
        ],
    )


def list_responses() -> dict[str, Message]:
    """Gives the messages that the Rust side writes, by the name of their row."""
    sold_out = outcome_pb2.Result(
        outcome=outcome_pb2.OUTCOME_SOLD_OUT,
        sku="sku-1",
        level=availability_pb2.LEVEL_HELD_OUT,
        level_epoch=3,
        come_back_time=OPENS,
    )
    held = outcome_pb2.Result(
        outcome=outcome_pb2.OUTCOME_OK, replayed=True, state=reservation_pb2.STATE_HELD
    )
    taken = reservation_pb2.Taken(line_index=1, sku="sku-2", pool="p-1", units=4)
    reserved = stock_service_pb2.ReserveResponse(
        place=PLACE, result=held, expire_time=CLOSES, taken=[taken]
    )
    fault = fault_pb2.Fault(
        code=8,
        message="the reservation lane is full; come back later",
        reason="LANE_FULL",
        metadata={"lane": "reservation"},
        retry_after=Duration(seconds=1, nanos=500_000_000),
    )
    return {
        "reply.Reserve": reserved,
        "reply.Refused": stock_service_pb2.ReserveResponse(place=PLACE, result=sold_out),
        "reply.Exchange": stock_service_pb2.ExchangeResponse(
            exchange_id=-3,
            replies=[
                stock_service_pb2.Reply(reserve=reserved),
                stock_service_pb2.Reply(fault=fault),
            ],
        ),
    }
