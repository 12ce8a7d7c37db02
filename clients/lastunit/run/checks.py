"""Compares, after the sale, what everybody knows: provider, orders, ledger, journal and buyers.

Owns the checks on which the exit status of the main job stands. Must not repair anything.
Next: ``job.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc
import httpx

from lastunit.load.tally import Ending
from lastunit.order.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc
from lastunit.stock.v1 import reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lastunit.client.aio import StockClient
    from lastunit.load.tally import Joined
    from lastunit.run.sale import SaleFile
    from lastunit.run.services import Services
    from lastunit.stock.v1 import availability_pb2, event_pb2, stock_admin_service_pb2

__all__ = ["Outcome", "examine"]

CALLS_AT_ONCE_MAX: Final = 256
_CALL_SECONDS_MAX: Final = 60.0
_EVENTS_PER_PAGE: Final = 2_048
EVENTS_READ_MAX: Final = 10_000_000

_PAID_BACK: Final = (reservation_pb2.STATE_REFUND_DUE, reservation_pb2.STATE_REFUNDED)


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """What the sale came to.

    Attributes:
        sold: Units sold, as the ledger counts them.
        oversold: Units sold beyond the supply; also counted from the reservations.
        unsold_with_waiting_buyers: Units left although a buyer went home without one.
        paid_without_unit_or_refund: Payments on the provider's bill with neither.
        conservation_holds: Whether in every pool all units add up.
        charged: Payments on the provider's bill.
        honoured: Of these, those whose order is paid and whose unit is the buyer's.
        refunded: Of these, those that are given back.
        callback_wait_p99: Seconds of the sale from a callback's arrival to its effect.
        callback_wait_max: The longest of these.
        turnover_minor: Amount of all honoured payments.
        buyers: Buyers who came.
        endings: How their day ended.
        reservations: Reservations by state.
        pools: Counters of each pool.
        acknowledged: Orders that were acknowledged to buyers.
        acknowledged_lost: Of these, those the ledger does not know.
        retried_ids: Ids that were sent more than once by buyers.
        replays: Acknowledged ids that were sent once more and gave the first answer.
        effects_twice: Ids with more than one effect in the journal.
        events: Events in the journal.
        checks: Name of each check and whether it held.
        notes: What failed, in words.
    """

    sold: int = 0
    oversold: int = 0
    unsold_with_waiting_buyers: int = 0
    paid_without_unit_or_refund: int = 0
    conservation_holds: bool = False
    charged: int = 0
    honoured: int = 0
    refunded: int = 0
    callback_wait_p99: float | None = None
    callback_wait_max: float | None = None
    turnover_minor: int = 0
    buyers: int = 0
    endings: dict[str, int] = dataclasses.field(default_factory=dict)
    reservations: dict[str, int] = dataclasses.field(default_factory=dict)
    pools: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    acknowledged: int = 0
    acknowledged_lost: int = 0
    retried_ids: int = 0
    replays: int = 0
    effects_twice: int = 0
    events: int = 0
    checks: dict[str, bool] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether every check held."""
        return all(self.checks.values())


async def examine(
    client: StockClient, services: Services, file: SaleFile, buyers: Joined
) -> Outcome:
    """Asks everybody and compares.

    Args:
        client: Of the ledger.
        services: Where the others are.
        file: What was sold.
        buyers: What the buyers reported.
    """
    outcome = Outcome(buyers=file.buyers.count, endings=dict(buyers.counter("endings")))
    audit = (await client.admin.audit(deadline_seconds=_CALL_SECONDS_MAX)).response
    bill = await _bill(services.provider_url)
    billed = {str(row["merchant_no"]).rpartition(":")[0]: row for row in bill}
    acknowledged = buyers.mapping("orders")
    reservations = await _reservations(client, {*billed, *acknowledged})
    order_states = await _order_states(services.order_address, billed)
    events = await _read_events(client)
    _count_stock(outcome, audit, file)
    _count_money(outcome, billed, reservations, order_states)
    _count_promises(outcome, acknowledged, reservations, buyers)
    _count_effects(outcome, events, acknowledged)
    _count_waits(outcome, events, file)
    _judge(outcome, audit, file)
    return outcome


# What everybody knows


async def _bill(provider_url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=_CALL_SECONDS_MAX) as http:
        response = await http.get(f"{provider_url}/v1/bill")
        response.raise_for_status()
        rows: list[dict[str, Any]] = response.json()["rows"]
        return rows


async def _reservations(
    client: StockClient, order_ids: Iterable[str]
) -> dict[str, reservation_pb2.Reservation]:
    """Gets reservations by id; one that the ledger does not know is missing."""
    ids = sorted(order_ids)
    found: dict[str, reservation_pb2.Reservation] = {}
    for start in range(0, len(ids), CALLS_AT_ONCE_MAX):
        batch = ids[start : start + CALLS_AT_ONCE_MAX]
        replies = await asyncio.gather(
            *(client.get_reservation(each, deadline_seconds=_CALL_SECONDS_MAX) for each in batch)
        )
        for order_id, reply in zip(batch, replies, strict=True):
            if reply.is_ok:
                found[order_id] = reply.response.reservation
    return found


async def _order_states(address: str, order_ids: Iterable[str]) -> dict[str, int]:
    states: dict[str, int] = {}
    turns = asyncio.Semaphore(CALLS_AT_ONCE_MAX)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)

        async def get(order_id: str) -> None:
            request = order_service_pb2.GetOrderRequest(order_id=order_id)
            async with turns:
                answer = await stub.GetOrder(request, timeout=_CALL_SECONDS_MAX)
            states[order_id] = answer.order.state

        await asyncio.gather(*(get(each) for each in order_ids))
    return states


async def _read_events(client: StockClient) -> list[event_pb2.Event]:
    events: list[event_pb2.Event] = []
    after = 0
    while len(events) < EVENTS_READ_MAX:
        page = await client.read_event_page(after, page_size=_EVENTS_PER_PAGE)
        if not page.events:
            break
        events.extend(page.events)
        after = page.events[-1].sequence
    return events


# What it comes to


def _count_stock(
    outcome: Outcome, audit: stock_admin_service_pb2.AuditResponse, file: SaleFile
) -> None:
    pools = [pool for pool in audit.pools if pool.sale_id == file.sale.sale_id]
    outcome.sold = sum(pool.counters.sold for pool in pools)
    outcome.oversold = max(0, outcome.sold - file.units)
    outcome.conservation_holds = bool(pools) and all(_adds_up(pool.counters) for pool in pools)
    outcome.pools = {pool.pool: _as_dict(pool.counters) for pool in pools}
    outcome.reservations = {
        reservation_pb2.State.Name(each.state).removeprefix("STATE_"): each.count
        for each in audit.reservation_counts
    }
    available = sum(pool.counters.available for pool in pools)
    without = (Ending.GONE, Ending.VIEWS_USED, Ending.NO_ANSWER, Ending.CLOSED)
    waiting = sum(outcome.endings.get(each.value, 0) for each in without)
    outcome.unsold_with_waiting_buyers = min(available, waiting)


def _adds_up(counters: availability_pb2.Counters) -> bool:
    """Checks conservation in one pool, from the numbers alone."""
    places = (
        counters.available,
        counters.buffer,
        counters.held,
        counters.paying,
        counters.overdue,
        counters.sold,
        counters.quarantine,
    )
    kept = counters.supplied - counters.withdrawn - counters.written_off
    return sum(places) == kept and min(places) >= 0


def _as_dict(counters: availability_pb2.Counters) -> dict[str, int]:
    return {field.name: getattr(counters, field.name) for field in counters.DESCRIPTOR.fields}


def _count_money(
    outcome: Outcome,
    billed: dict[str, dict[str, Any]],
    reservations: dict[str, reservation_pb2.Reservation],
    order_states: dict[str, int],
) -> None:
    outcome.charged = len(billed)
    for order_id, row in billed.items():
        reservation = reservations.get(order_id)
        state = reservation.state if reservation else reservation_pb2.STATE_UNSPECIFIED
        order_state = order_states.get(order_id)
        is_honoured = (
            state == reservation_pb2.STATE_CONFIRMED
            and order_state == order_pb2.ORDER_STATE_PAID
            and row["refunded_minor"] == 0
        )
        if is_honoured:
            outcome.honoured += 1
            outcome.turnover_minor += int(row["amount_minor"])
        elif state in _PAID_BACK or row["refunded_minor"] == row["amount_minor"]:
            outcome.refunded += 1
        else:
            outcome.paid_without_unit_or_refund += 1
            outcome.notes.append(
                f"{order_id} was paid; the ledger says "
                f"{reservation_pb2.State.Name(state)}, the order service says {order_state}"
            )
    # Counted from the reservations and not from the ledger's own sum.
    confirmed = sum(r.state == reservation_pb2.STATE_CONFIRMED for r in reservations.values())
    supplied = sum(pool["supplied"] for pool in outcome.pools.values())
    outcome.oversold = max(outcome.oversold, confirmed - supplied)


def _count_promises(
    outcome: Outcome,
    acknowledged: dict[str, str],
    reservations: dict[str, reservation_pb2.Reservation],
    buyers: Joined,
) -> None:
    outcome.acknowledged = len(acknowledged)
    for order_id, person_id in acknowledged.items():
        reservation = reservations.get(order_id)
        if reservation is None or reservation.person_id != person_id:
            outcome.acknowledged_lost += 1
            outcome.notes.append(f"{order_id} was acknowledged and the ledger does not know it")
    outcome.retried_ids = len(buyers.items("retried_ids"))
    outcome.replays = buyers.number("replays")
    outcome.notes.extend(f"repeated id: {each}" for each in buyers.items("wrong_replays"))


def _count_effects(
    outcome: Outcome, events: Sequence[event_pb2.Event], acknowledged: dict[str, str]
) -> None:
    """Looks in the journal for an id with two effects, or an acknowledged one without any."""
    outcome.events = len(events)
    effects: Counter[tuple[str, str]] = Counter()
    for event in events:
        body = event.WhichOneof("body")
        if body == "reserved":
            effects["reserved", event.reservation_id] += 1
        elif body == "payment_begun":
            effects["begun", event.payment_begun.attempt_id] += 1
        elif body == "payment_settled":
            effects["settled", event.request_id] += 1
    outcome.effects_twice = sum(count > 1 for count in effects.values())
    gaps = sum(
        later.sequence != earlier.sequence + 1 for earlier, later in itertools.pairwise(events)
    )
    missing = sum(effects["reserved", order_id] == 0 for order_id in acknowledged)
    outcome.acknowledged_lost = max(outcome.acknowledged_lost, missing)
    outcome.checks["the journal has no gap"] = gaps == 0


def _count_waits(outcome: Outcome, events: Sequence[event_pb2.Event], file: SaleFile) -> None:
    """Measures, in seconds of the sale, how long callbacks waited once the provider had sent them.

    The provider sends a callback a fixed time after the payment; what is on top is waiting.
    """
    delay = file.provider.callback_delay_seconds
    waits = []
    for event in events:
        settled = event.payment_settled
        is_settled = event.WhichOneof("body") == "payment_settled"
        # What the payment service writes down as its source; asked-for results waited for nobody.
        is_callback = is_settled and " callback " in settled.evidence
        if is_callback and settled.HasField("occurred_time"):
            spent_ms = event.time.ToMilliseconds() - settled.occurred_time.ToMilliseconds()
            waits.append(max(0.0, spent_ms / 1_000 / file.run.time_scale - delay))
    if waits:
        ordered = sorted(waits)
        outcome.callback_wait_p99 = round(ordered[int(0.99 * len(ordered))], 2)
        outcome.callback_wait_max = round(ordered[-1], 2)


def _judge(outcome: Outcome, audit: stock_admin_service_pb2.AuditResponse, file: SaleFile) -> None:
    """Says which checks held."""
    ended = sum(outcome.endings.values())
    no_answer = outcome.endings.get(Ending.NO_ANSWER.value, 0)
    is_replayed = outcome.replays == outcome.acknowledged
    outcome.checks |= {
        "nothing is oversold": outcome.oversold == 0,
        "no unit is unsold while a buyer waits": outcome.unsold_with_waiting_buyers == 0,
        "every payment has a unit or a refund": outcome.paid_without_unit_or_refund == 0,
        "units are conserved in every pool": outcome.conservation_holds,
        "the ledger's audit holds": audit.holds,
        "the provider's bill equals the units sold": outcome.honoured == outcome.sold,
        "every buyer has a final answer": ended == file.buyers.count and no_answer == 0,
        "every acknowledged order is in the ledger": outcome.acknowledged_lost == 0,
        "every repeated id had one effect": outcome.effects_twice == 0 and is_replayed,
    }
    outcome.notes.extend(
        f"audit: {each.invariant} {each.subject}: {each.message}" for each in audit.findings
    )
