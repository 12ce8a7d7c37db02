"""Metrics of the order service: what is owed and waits is seen, and nobody's order is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.client.outcomes import State
from lastunit.order.metrics import METRICS, OrderMetrics
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2

if TYPE_CHECKING:
    from .world import World


def scrape(world: World) -> dict[str, float]:
    """Returns each metric's value by its name, without its prefix."""
    collector = OrderMetrics(
        database=world.database,
        follower=world.core.follower,
        watch=world.core.watch,
        person_watch=world.person_watch,
        clock=world.clock,
    )
    samples = [sample for family in collector.collect() for sample in family.samples]
    assert {sample.name for sample in samples} == {family.name for family in METRICS}
    return {
        "_".join(
            (sample.name.removeprefix("lastunit_order_"), *sample.labels.values())
        ): sample.value
        for sample in samples
    }


async def test_what_is_owed_ages_until_the_money_is_back(world: World) -> None:
    """One refund on its way, a minute old; then none, and its unit waits; then nothing does."""
    order_id = await world.buy()
    world.payments.refund_state = payment_service_pb2.REFUND_STATE_PENDING
    await world.refund(order_id)
    await world.core.deliver_once()
    world.clock.advance_to(world.clock.now_ms() + 60_000)
    owed = scrape(world)
    world.payments.refunds[f"{order_id}:r1"].state = payment_service_pb2.REFUND_STATE_DONE
    await world.core.deliver_once()
    back = scrape(world)
    await world.settle_down()
    done = scrape(world)

    assert (owed["owed_refunds"], owed["owed_refund_age_seconds"]) == (1, 60)
    assert (back["owed_refunds"], back["waiting_deliveries"]) == (0, 1)
    assert (done["owed_refund_age_seconds"], done["waiting_deliveries"]) == (0, 0)


async def test_what_makes_no_sense_is_counted(world: World) -> None:
    """An event without a place, and a ledger that says HELD of a paid order; who watches, too."""
    order_id = await world.buy()
    stream = world.core.watch.watch(pb.WatchOrderRequest(order_id=order_id))
    await anext(stream)
    world.ledger.happen(order_id, State.HELD, became_overdue={})
    await world.show(order_id)
    counted = scrape(world)

    assert (counted["unexpected_events_total"], counted["disagreements_total"]) == (1, 1)
    assert counted["watchers"] == 1
    assert counted["person_answers_total_account service"] == counted["person_calls_total"] == 1
    assert counted["followed_sequence"] == len(world.ledger.events)
