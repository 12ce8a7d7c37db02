"""What operators do stands in the journal itself: who, why, and under which proved name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conformance.kit import POOL, SKU, new_id
from typer.testing import CliRunner

from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit_server.cli import app

from .kit import refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.kit import Ledger

    from .kit import Door

PERMISSIONS = """
[[permissions]]
callers = ["stock-keeper"]
methods = ["admin", "reserve", "settle", "read", "journal"]
[[permissions]]
callers = ["shop"]
methods = ["reserve"]
"""
WORDS = {"actor": "alice", "reason": "counted again by hand"}


def actions(sale_id: str, reservation_id: str) -> Iterator[tuple[str, Any]]:
    """Yields every method of the service that changes something, with a request that does."""
    about: dict[str, Any] = {"sale_id": sale_id, "sku": SKU}
    pool: dict[str, Any] = {**about, "pool": POOL}
    other: dict[str, Any] = {**about, "pool": "other"}
    yield "PutSale", admin.PutSaleRequest(sale_id=sale_id, policy=_policy())
    yield "PutPool", admin.PutPoolRequest(**other, position=1, is_offered=True)
    yield "SupplyStock", admin.SupplyStockRequest(**pool, units=5)
    yield "SupplyStock", admin.SupplyStockRequest(**pool, units=5, is_buffer=True)
    yield "WithdrawStock", admin.WithdrawStockRequest(**pool, units=1)
    yield (
        "MoveStock",
        admin.MoveStockRequest(**about, source_pool=POOL, target_pool="other", units=2),
    )
    yield "PourBuffer", admin.PourBufferRequest(**pool, units=1)
    yield "AdjustStock", admin.AdjustStockRequest(**other, expected_available=2, available=3)
    yield "SetExpiryBrake", admin.SetExpiryBrakeRequest(is_on=True)
    yield "MergePersons", admin.MergePersonsRequest(source_person_id="a", target_person_id="b")
    yield "SplitPersons", admin.SplitPersonsRequest(person_ids=["a"])
    yield "ReleaseUnverified", admin.ReleaseUnverifiedRequest(reservation_id=reservation_id)
    yield (
        "SetSaleState",
        admin.SetSaleStateRequest(sale_id=sale_id, state=sale_pb2.SALE_STATE_PAUSED),
    )


def _policy() -> sale_pb2.SalePolicy:
    return sale_pb2.SalePolicy(low_level_percent=20, is_unverified_release_allowed=True)


def ask(ledger: Ledger, method: str, request: Any) -> Any:
    """Calls an admin method."""
    call: Any = ledger.settlement.unary_unary(
        f"/lastunit.stock.v1.StockAdminService/{method}",
        request_serializer=lambda each: each.SerializeToString(),
        response_deserializer=getattr(admin, f"{method}Response").FromString,
    )
    return call(request, timeout=10)


def test_every_action_of_an_operator_is_journaled_with_who_and_why(door: Door) -> None:
    """Each change has an event that says so and outlives the server; a refused one has none.

    ReleaseUnverified is refused here only: it needs an overdue payment (tests/conformance has it).
    """
    keeper, shop = door.give_token("stock-keeper"), door.give_token("shop")
    door.write(PERMISSIONS)
    server = door.start("--set", "journal.durability=written")
    ledger, stranger = door.ledger(keeper), door.ledger(shop)
    sale_id = ledger.put_sale(units=10, is_unverified_release_allowed=True)
    reservation_id, _attempt = ledger.paying(sale_id)
    start = ledger.sequence()
    done: dict[str, str] = {}
    for method, request in actions(sale_id, reservation_id):
        request.request_id, request.actor, request.reason = new_id("done"), *WORDS.values()
        if method != "ReleaseUnverified":
            ledger.must(ask(ledger, method, request))
            done[request.request_id] = method
        request.request_id = new_id("refused")
        refused = refusal_of(lambda: ask(stranger, method, request))  # noqa: B023
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
    ledger.close()
    stranger.close()
    assert server.stop() == 0

    printed = CliRunner().invoke(
        app,
        [
            "events",
            "--data-directory",
            server.ready["directory"],
            "--from",
            str(start + 1),
            "--json",
        ],
    )
    events = [json.loads(line) for line in printed.stdout.splitlines()]
    asked = {event["request_id"]: event for event in events if event.get("request_id")}
    assert set(asked) == set(done)
    for request_id, event in asked.items():
        told = (event["caller"], event["actor"], event["reason"])
        assert told == ("stock-keeper", *WORDS.values()), done[request_id]


def test_an_action_without_who_or_why_is_refused(door: Door) -> None:
    """Neither an actor nor a reason may be left out."""
    token = door.give_token("stock-keeper")
    door.write()
    door.start()
    ledger = door.ledger(token)
    sale_id = ledger.put_sale(units=1)
    before = ledger.sequence()
    for lacking in WORDS:
        request = admin.SupplyStockRequest(
            request_id=new_id("request"), sale_id=sale_id, sku=SKU, pool=POOL, units=1
        )
        for name, value in WORDS.items():
            if name != lacking:
                setattr(request, name, value)
        with pytest.raises(grpc.RpcError) as caught:
            ask(ledger, "SupplyStock", request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert lacking in str(caught.value.details())

    assert ledger.sequence() == before
    ledger.close()
