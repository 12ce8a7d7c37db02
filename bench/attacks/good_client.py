"""The client that must not notice: a steady stream of calls on both listeners, open loop.

Owns its own figures and nothing else; a process of its own, so that neither the attacker nor the
measuring takes its time. A call's latency counts from the moment it was due.
`python -m bench.attacks.good_client DATA SETTLEMENT SECONDS RATE` prints one JSON line.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from bench import stock
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as messages
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALL_SECONDS_MAX = 10.0
PERCENTILES = (50, 99, 100)


class Tally:
    """What became of the calls of one kind."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: Counter[str] = Counter()

    async def note(self, due: float, call: Callable[[], Awaitable[Any]]) -> None:
        """Makes one call and notes how long it took since it was due, or why it failed."""
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            self.failures[f"{error.code().name}: {error.details()}"[:120]] += 1
        else:
            self.seconds.append(time.perf_counter() - due)

    def facts(self) -> dict[str, Any]:
        """Returns counts and percentiles in milliseconds."""
        ordered = sorted(self.seconds)
        facts: dict[str, Any] = {
            "served": len(ordered),
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
        }
        for percent in PERCENTILES:
            index = min(len(ordered) - 1, len(ordered) * percent // 100)
            facts[f"p{percent}_ms"] = round(ordered[index] * 1000, 2) if ordered else None
        return facts


async def run(data: str, settlement: str, seconds: float, rate: float) -> dict[str, Any]:
    """Calls both listeners `rate` times a second each."""
    reserved, settled = Tally(), Tally()
    async with (
        grpc.aio.insecure_channel(data) as first,
        grpc.aio.insecure_channel(settlement) as second,
    ):
        stubs = (StockServiceStub(first), StockServiceStub(second))
        tasks: set[asyncio.Task[None]] = set()
        start = time.perf_counter()
        for number in range(int(seconds * rate)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            for tally, call in zip((reserved, settled), _calls(*stubs), strict=True):
                task = asyncio.create_task(tally.note(due, call))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    return {"data": reserved.facts(), "settlement": settled.facts()}


def _calls(data: Any, settlement: Any) -> tuple[Callable[[], Awaitable[Any]], ...]:
    reserve = messages.ReserveRequest(
        reservation_id=uuid.uuid4().hex,
        sale_id=stock.SALE,
        person_id=uuid.uuid4().hex,
        lines=[reservation_pb2.Line(sku=stock.SKU, units=1)],
    )
    confirm = messages.ConfirmRequest(request_id=uuid.uuid4().hex, reservation_id="nobody")
    return (
        lambda: data.Reserve(reserve, timeout=CALL_SECONDS_MAX),
        lambda: settlement.Confirm(confirm, timeout=CALL_SECONDS_MAX),
    )


def main() -> None:
    """Runs the client and prints what it saw."""
    data, settlement, seconds, rate = sys.argv[1:]
    seen = asyncio.run(run(data, settlement, float(seconds), float(rate)))
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
