"""A process of buyers: reads a plan, keeps all of them open, says how it goes.

Owns the process's standard streams. Must not start services. Next: ``buyer.py``.

Reads a ``LoadPlan`` from standard input; writes JSON lines: ``ready``, ``progress`` twice a second
and one ``report``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any, Final

from lastunit.load.buyer import Buyer
from lastunit.load.door import Door, NoAnswerError
from lastunit.load.plan import LoadPlan
from lastunit.load.tally import Tally
from lastunit.order.v1 import order_pb2, order_service_pb2

__all__ = ["main"]

PROGRESS_SECONDS: Final = 0.5

REPEATS_AT_ONCE_MAX: Final = 256
"""Repeated orders in flight while every acknowledged id is tried again."""


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
    sys.stdout.flush()


async def _say_progress(tally: Tally) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        _say(tally.progress())


async def _repeat_orders(plan: LoadPlan, door: Door, tally: Tally) -> None:
    """Sends each acknowledged PlaceOrder again: it must give the first order and no second one."""
    turns = asyncio.Semaphore(REPEATS_AT_ONCE_MAX)
    request_ids = {order_id: request_id for request_id, order_id in tally.acknowledged.items()}

    async def repeat(order_id: str) -> None:
        request_id = request_ids[order_id]
        account_id = request_id.rpartition(".")[0]
        request = order_service_pb2.PlaceOrderRequest(
            request_id=request_id,
            account_id=account_id,
            sale_id=plan.sale_id,
            lines=[order_pb2.OrderLine(sku=plan.sku, units=1)],
        )
        async with turns:
            try:
                answer = await door.order("PlaceOrder", request, buyer=hash(order_id))
            except NoAnswerError as error:
                tally.wrong_replays.append(str(error))
                return
        if answer.order_id == order_id and answer.replayed:
            tally.replays += 1
        else:
            tally.wrong_replays.append(f"{request_id}: first {order_id}, then {answer.order_id}")

    await asyncio.gather(*(repeat(each) for each in tally.orders))


async def _run(plan: LoadPlan) -> None:
    tally = Tally(buyers=len(plan.account_ids))
    door = Door(
        plan.order_address,
        channels=plan.channels,
        place_calls_max=plan.place_calls_max,
        patience_seconds=plan.patience_seconds,
        tally=tally,
        seed=plan.seed,
    )
    async with door:
        _say({"event": "ready", "service": "buyers"})
        progress = asyncio.create_task(_say_progress(tally))
        buyers = (Buyer(index, plan=plan, door=door, tally=tally) for index in range(tally.buyers))
        try:
            await asyncio.gather(*(buyer.shop() for buyer in buyers))
            await _repeat_orders(plan, door, tally)
        finally:
            progress.cancel()
    _say(tally.report())


def main() -> None:
    """Runs the buyers of the plan on standard input."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    plan = LoadPlan.from_json(sys.stdin.read())
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run(plan))
    else:
        uvloop.run(_run(plan))


if __name__ == "__main__":
    main()
