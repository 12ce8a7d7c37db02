"""Refunds and returns over the real ledger, payment service and sandbox: money and units agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.sandbox.knobs import SandboxKnobs
from lastunit.stock.v1 import outcome_pb2, reservation_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

from .system import AMOUNT_MINOR
from .test_promotions import with_prices

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .system import System

    Make = Callable[..., Awaitable[System]]


async def bought(shop: System, buyer: str = "ada", *, units: int = 1, coupon_id: str = "") -> str:
    """Places and pays an order; returns its id."""
    placed = await shop.place(buyer, units=units, coupon_id=coupon_id)
    paid = await shop.pay(placed.order_id)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(2_000)
    assert await shop.state(placed.order_id) == "PAID"
    return placed.order_id


def refund_of(order_id: str, amount_minor: int = 0, request_id: str = "refund") -> pb.RefundRequest:
    """Asks for money back."""
    return pb.RefundRequest(
        request_id=request_id,
        order_id=order_id,
        amount_minor=amount_minor,
        reason="buyer asked",
        actor="desk-1",
    )


@pytest.mark.parametrize("delay_ms", [0, 90_000])
async def test_a_full_refund_frees_money_and_unit(system: Make, delay_ms: int) -> None:
    """At once, or when the provider is slow: the unit waits for the money, then is sold again."""
    shop = await system(knobs=SandboxKnobs(refund_delay_ms=delay_ms))
    order_id = await bought(shop)
    asked = await shop.orders.refund(refund_of(order_id))
    early = await shop.place("bob")
    await shop.run_for(300_000)
    later = await shop.place("eve")

    assert (asked.refusal, asked.order_state) == (0, order_pb2.ORDER_STATE_REFUND_DUE)
    assert early.outcome == outcome_pb2.OUTCOME_SOLD_OUT
    assert later.outcome == outcome_pb2.OUTCOME_OK
    assert await shop.state(order_id) == "REFUNDED"
    assert [row.refunded_minor for row in shop.sandbox.bill()] == [AMOUNT_MINOR]
    await shop.audit()


async def test_parts_go_back_to_the_unit_of_money_over_restarts(system: Make) -> None:
    """Three parts with a restart after each; the bill has their sum, and one more is refused."""
    shop = await system()
    order_id = await bought(shop)
    for each, amount in enumerate((1, 33_333, 50_666)):
        await shop.orders.refund(refund_of(order_id, amount, f"refund-{each}"))
        shop.restart()
        await shop.run_for(60_000)
    over = await shop.orders.refund(refund_of(order_id, 1, "refund-3"))
    shown = await shop.order(order_id)

    assert shown.state == order_pb2.ORDER_STATE_REFUNDED
    assert [row.refunded_minor for row in shop.sandbox.bill()] == [84_000]
    assert over.refusal == pb.REFUSAL_WRONG_STATE
    await shop.audit()


async def test_coupon_gift_and_the_persons_limit_come_back_with_the_order(system: Make) -> None:
    """What was taken is given back whole, and the person may buy again where the sale says so."""
    shop = await with_prices(system)
    policy = sale_pb2.SalePolicy(units_per_person_per_sku_max=2, does_return_give_limit_back=True)
    put = await shop.client.admin.put_sale(
        admin_pb.PutSaleRequest(
            request_id=f"{shop.sale_id}:limit",
            actor="test",
            reason="test",
            sale_id=shop.sale_id,
            policy=policy,
        )
    )
    assert put.is_ok

    async def counts() -> dict[str, tuple[int, int]]:
        shown = await shop.client.get_availability(shop.sale_id)
        return {
            each.sku: (each.counters.available, each.counters.sold)
            for each in shown.response.availabilities
        }

    before = await counts()
    order_id = await bought(shop, units=2, coupon_id="TENTH")
    account = f"{shop.sale_id}:ada"
    more = pb.PlaceOrderRequest(request_id=f"{account}:2", account_id=account, sale_id=shop.sale_id)
    more.lines.add(sku="phone", units=2)
    limited = await shop.orders.place_order(more)
    await shop.orders.refund(refund_of(order_id))
    await shop.run_for(60_000)
    after = await counts()
    again = await shop.orders.place_order(more)

    assert limited.outcome == outcome_pb2.OUTCOME_LIMIT_REACHED
    assert after == before
    assert again.outcome == outcome_pb2.OUTCOME_OK
    assert (await shop.client.admin.audit()).response.holds


async def test_a_returned_unit_is_kept_apart_and_paid_back(system: Make) -> None:
    """Shipped, delivered, one of two back: quarantine, its price back, the other stays sold."""
    shop = await system(units=2)
    order_id = await bought(shop, units=2)
    await shop.orders.ship(
        pb.ShipRequest(request_id="ship", order_id=order_id, carrier="post", actor="w")
    )
    await shop.orders.deliver(pb.DeliverRequest(request_id="d", order_id=order_id, actor="w"))
    request = pb.ReturnGoodsRequest(
        request_id="back",
        order_id=order_id,
        disposition=reservation_pb2.DISPOSITION_QUARANTINE,
        does_refund=True,
        reason="broken",
        actor="w",
    )
    request.lines.add(sku="phone", units=1)
    await shop.orders.return_goods(request)
    await shop.run_for(60_000)

    assert await shop.counters() == {"supplied": 2, "sold": 1, "quarantine": 1}
    assert [row.refunded_minor for row in shop.sandbox.bill()] == [AMOUNT_MINOR]
    assert await shop.state(order_id) == "PAID"
    assert (await shop.client.admin.audit()).response.holds


async def test_one_call_explains_the_whole_life(system: Make) -> None:
    """Order, reservation, attempt and refund, each move with its cause and actor, by time."""
    shop = await system()
    order_id = await bought(shop)
    await shop.orders.refund(refund_of(order_id))
    await shop.run_for(60_000)
    explained = await shop.orders.explain(pb.ExplainRequest(order_id=order_id))
    kinds = {move.entity for move in explained.transitions}
    times = [move.time.ToMilliseconds() for move in explained.transitions]

    assert not explained.missing
    assert sorted(times) == times
    assert kinds >= {
        order_pb2.TRANSITION_ENTITY_ORDER,
        order_pb2.TRANSITION_ENTITY_RESERVATION,
        order_pb2.TRANSITION_ENTITY_ATTEMPT,
        order_pb2.TRANSITION_ENTITY_REFUND,
    }
    assert all(move.actor for move in explained.transitions)
    assert all(move.cause for move in explained.transitions)


async def test_money_that_comes_after_a_full_refund_goes_back_too(system: Make) -> None:
    """A provider that breaks its word: the order stays REFUNDED, the unit stays for sale."""
    shop = await system(knobs=SandboxKnobs(takes_money_after_close=True))
    placed = await shop.place("ada")
    card, wallet = [
        (await shop.pay(placed.order_id, method)).provider_no for method in ("card", "wallet")
    ]
    shop.sandbox.pay(card)
    await shop.run_for(60_000)
    await shop.orders.refund(refund_of(placed.order_id))
    await shop.run_for(60_000)
    shop.sandbox.pay(wallet)
    await shop.run_for(300_000)

    assert await shop.state(placed.order_id) == "REFUNDED"
    assert [row.refunded_minor for row in shop.sandbox.bill()] == [AMOUNT_MINOR] * 2
    assert await shop.counters() == {"supplied": 1, "available": 1}
    assert (await shop.place("bob")).outcome == outcome_pb2.OUTCOME_OK
    await shop.audit()
