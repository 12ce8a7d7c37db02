"""A Python process that asks for pairs in batches: what a Python team in front gets.

Owns: `python -m bench.peers.python_caller lastunit|redis|tigerbeetle ADDRESS BATCH SECONDS`: one
process, two batches under way; a batch's reserves are answered before its confirms are sent.
Prints its figures as a line of JSON, as the native driver does.
"""

from __future__ import annotations

import json
import os
import queue
import random
import sys
import time
from dataclasses import dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Protocol

import grpc
import redis

from bench import stock
from bench.peers.tigerbeetle_caller import TigerBeetleCaller
from lastunit.stock.v1 import outcome_pb2, reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as pb
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

BUYERS = 10_000_000
WORKERS = 2
REDIS_UNITS_PER_BUYER_MAX = 5
REDIS_RESERVATION_MS = 600_000
REDIS_REMEMBERED_SECONDS = 86_400
OPTIONS = [("grpc.max_receive_message_length", 4 << 20)]


class Caller(Protocol):
    """One worker's way to its peer."""

    def reserve(self, ids: list[str]) -> int:
        """Reserves a unit under each id; returns how many were granted."""
        ...

    def confirm(self, ids: list[str]) -> int:
        """Confirms each; returns how many were."""
        ...


class LedgerCaller:
    """An Exchange stream."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._requests: queue.SimpleQueue[pb.ExchangeRequest] = queue.SimpleQueue()
        # A Reserve of which only the two names change.
        self._template = pb.ReserveRequest(
            sale_id=stock.SALE, lines=[reservation_pb2.Line(sku=stock.SKU, units=1)]
        )
        self._responses = StockServiceStub(channel).Exchange(self._sent())

    def _sent(self) -> Iterator[pb.ExchangeRequest]:
        while True:
            yield self._requests.get()

    def _exchange(self, request: pb.ExchangeRequest, kind: str) -> int:
        self._requests.put(request)
        response = next(self._responses)
        ok = outcome_pb2.OUTCOME_OK
        return sum(getattr(it, kind).result.outcome == ok for it in response.replies)

    def reserve(self, ids: list[str]) -> int:
        """Sends one message of Reserves."""
        request = pb.ExchangeRequest(exchange_id=1)
        add, template, draw = request.operations.add, self._template, random.random
        for name in ids:
            reserve = add().reserve
            reserve.CopyFrom(template)
            reserve.reservation_id = name
            reserve.person_id = f"b{int(draw() * BUYERS)}"
        return self._exchange(request, "reserve")

    def confirm(self, ids: list[str]) -> int:
        """Sends one message of Confirms."""
        request = pb.ExchangeRequest(exchange_id=2)
        add = request.operations.add
        for name in ids:
            confirm = add().confirm
            confirm.request_id = "c-" + name
            confirm.reservation_id = name
        return self._exchange(request, "confirm")


class RedisCaller:
    """A connection with a pipeline."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._client = redis.Redis(host, int(port))

    def reserve(self, ids: list[str]) -> int:
        """Sends one pipeline of reserves."""
        deadline = int(time.time() * 1000) + REDIS_RESERVATION_MS
        pipeline = self._client.pipeline(transaction=False)
        for name in ids:
            keys = ("stock:unit", f"hold:{name}", "buyers:unit", "deadlines")
            buyer = f"b{int(random.random() * BUYERS)}"
            pipeline.fcall(
                "reserve", 4, *keys, name, "unit", buyer, 1, REDIS_UNITS_PER_BUYER_MAX, deadline
            )
        return sum(reply[0] == b"OK" for reply in pipeline.execute())

    def confirm(self, ids: list[str]) -> int:
        """Sends one pipeline of confirms."""
        pipeline = self._client.pipeline(transaction=False)
        for name in ids:
            keys = ("stock:unit", f"hold:{name}", "deadlines")
            pipeline.fcall("confirm", 3, *keys, name, REDIS_REMEMBERED_SECONDS)
        return sum(reply[0] == b"OK" for reply in pipeline.execute())


@dataclass
class Seen:
    """What all workers saw."""

    pairs: int = 0
    asked: int = 0
    call_seconds: list[float] = field(default_factory=list)
    pair_seconds: list[float] = field(default_factory=list)


def work(caller: Caller, batch: int, end: float, seen: Seen) -> None:
    """Asks again and again until the time is over."""
    run = os.urandom(4).hex()
    number = 0
    while (start := time.perf_counter()) < end:
        ids = [f"{run}-{it}" for it in range(number, number + batch)]
        number += batch
        caller.reserve(ids)
        between = time.perf_counter()
        seen.pairs += caller.confirm(ids)
        done = time.perf_counter()
        seen.asked += batch
        seen.call_seconds += [between - start, done - between]
        seen.pair_seconds.append(done - start)


def percentile_ms(seconds: list[float], share: int) -> float:
    """Returns a percentile of latencies."""
    return sorted(seconds)[(len(seconds) - 1) * share // 100] * 1e3


def main() -> None:
    """Runs the load and prints its figures."""
    peer, address, batch, seconds = sys.argv[1:]
    callers: list[Caller]
    if peer == "lastunit":
        channel = grpc.insecure_channel(address, options=OPTIONS)
        callers = [LedgerCaller(channel) for _ in range(WORKERS)]
    else:
        is_redis = peer == "redis"
        kind: type[RedisCaller | TigerBeetleCaller] = RedisCaller if is_redis else TigerBeetleCaller
        callers = [kind(address) for _ in range(WORKERS)]
    # Of its own for each: two threads that add to one number could lose some.
    all_seen = [Seen() for _ in callers]
    start = time.perf_counter()
    threads = [
        Thread(target=work, args=(caller, int(batch), start + float(seconds), seen), daemon=True)
        for caller, seen in zip(callers, all_seen, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    calls = [it for seen in all_seen for it in seen.call_seconds]
    pairs = [it for seen in all_seen for it in seen.pair_seconds]
    done, asked = sum(it.pairs for it in all_seen), sum(it.asked for it in all_seen)
    figures = {
        "pairs": done,
        "refused": asked - done,
        "seconds": elapsed,
        "call_p50_ms": percentile_ms(calls, 50),
        "call_p99_ms": percentile_ms(calls, 99),
        "pair_p50_ms": percentile_ms(pairs, 50),
        "pair_p99_ms": percentile_ms(pairs, 99),
    }
    print(json.dumps(figures), flush=True)
    # The streams are still open, and nobody waits for them.
    os._exit(0)


if __name__ == "__main__":
    main()
