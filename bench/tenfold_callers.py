"""Presses ten times as hard as a server admits, open-loop, and counts what came back in time.

Owns the callers of `tenfold` that are our own: those with the client library, who come back when
they are told to while their patience lasts, and the hostile ones on Exchange streams, who send on
whatever they are told. Prints one line of JSON. Must not start servers. Next: `tenfold`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import grpc.aio

from lastunit.client.aio import StockClient
from lastunit.client.outcomes import Line
from lastunit.errors import LastunitError, ShedError
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_service_pb2 as messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SALE, SKU = "flood", "unit"
# Who has no answer after that has gone; what was done for them was of no use.
PATIENCE_SECONDS = 1.0
# How late a Reserve may reach the ledger, which forgets it soon after.
NOT_AFTER_SECONDS = 8.0
TICK_SECONDS = 0.01
STREAMS = 4
# A stream that is so far behind is not read by the server any more: it takes no more.
MESSAGES_UNANSWERED_MAX = 512
DRAIN_SECONDS = 2.0


class Counts:
    """What became of the calls; a call is counted in the end, a try when it was answered."""

    def __init__(self) -> None:
        self.sent = self.in_time = self.late = self.refused_tries = self.gave_up = 0
        self.others: Counter[str] = Counter()

    def facts(self) -> dict[str, Any]:
        """Returns all of it."""
        return {**vars(self), "others": dict(self.others)}


async def library(address: str, rate: float, seconds: float, *, is_batching: bool) -> Counts:
    """Reserves through the client library; who is refused comes back when it is told to."""
    counts = Counts()
    async with StockClient(address, caller="tenfold", is_batching=is_batching) as client:
        pressing: set[asyncio.Task[None]] = set()
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < seconds:
            while counts.sent < now * rate:
                counts.sent += 1
                task = asyncio.create_task(_press(client, counts))
                pressing.add(task)
                task.add_done_callback(pressing.discard)
            await asyncio.sleep(TICK_SECONDS)
        await asyncio.gather(*pressing)
    return counts


async def _press(client: StockClient, counts: Counts) -> None:
    name, end = uuid.uuid4().hex, time.monotonic() + PATIENCE_SECONDS
    not_after_ms = round((time.time() + NOT_AFTER_SECONDS) * 1_000)
    while (left := end - time.monotonic()) > 0:
        try:
            reply = await client.reserve(
                name,
                sale_id=SALE,
                person_id=name,
                lines=[Line(SKU)],
                not_after_ms=not_after_ms,
                deadline_seconds=left,
            )
        except ShedError as error:
            counts.refused_tries += 1
            wait = error.retry_after_seconds or PATIENCE_SECONDS
            if time.monotonic() + wait >= end:
                break
            await asyncio.sleep(wait)
        except LastunitError as error:
            counts.others[type(error).__name__] += 1
            return
        else:
            counts.in_time += reply.is_ok
            if not reply.is_ok:
                counts.others[reply.outcome.name] += 1
            return
    counts.gave_up += 1


class HostileStream:
    """Sends messages on time, answered or not, and never slows down for a refusal."""

    def __init__(self, stub: Any, counts: Counts) -> None:
        self._counts = counts
        self._due: deque[float] = deque()
        self._ready: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._call = stub(self._messages())

    def send(self, operation_count: int) -> None:
        """Sends one message of new reservations, unless the server has stopped to read."""
        if len(self._due) >= MESSAGES_UNANSWERED_MAX:
            self._counts.others["stream not read"] += operation_count
            return
        self._counts.sent += operation_count
        self._due.append(time.monotonic())
        self._ready.put_nowait(message(operation_count))

    def end(self) -> None:
        """Sends no more."""
        self._ready.put_nowait(None)

    async def receive(self) -> None:
        """Counts replies until the server ends the stream."""
        counts = self._counts
        async for response in self._call:
            is_late = time.monotonic() - self._due.popleft() > PATIENCE_SECONDS
            for reply in response.replies:
                if reply.HasField("reserve"):
                    counts.late += is_late
                    counts.in_time += not is_late
                elif reply.fault.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
                    counts.refused_tries += 1
                else:
                    counts.others[reply.fault.reason] += 1

    async def _messages(self) -> AsyncIterator[bytes]:
        while (part := await self._ready.get()) is not None:
            yield part


def message(operation_count: int) -> bytes:
    """Makes a message of reservations, each of one unit for a new person."""
    request = messages.ExchangeRequest(exchange_id=1)
    not_after_ms = round((time.time() + NOT_AFTER_SECONDS) * 1_000)
    for _ in range(operation_count):
        name = uuid.uuid4().hex
        reserve = request.operations.add().reserve
        reserve.reservation_id = reserve.person_id = name
        reserve.sale_id = SALE
        reserve.not_after_time.FromMilliseconds(not_after_ms)
        reserve.lines.append(reservation.Line(sku=SKU, units=1))
    return request.SerializeToString()


async def hostile(address: str, rate: float, seconds: float) -> Counts:
    """Floods Exchange streams."""
    counts = Counts()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(STREAMS)]
    stubs: list[Any] = [
        channel.stream_stream(
            "/lastunit.stock.v1.StockService/Exchange",
            response_deserializer=messages.ExchangeResponse.FromString,
        )
        for channel in channels
    ]
    streams = [HostileStream(stub, counts) for stub in stubs]
    receiving = [asyncio.create_task(stream.receive()) for stream in streams]
    begin, due_count, turn = time.monotonic(), 0, 0
    while (now := time.monotonic() - begin) < seconds:
        count = int(now * rate) - due_count
        # What is due after a pause of this process is sent, but not as one giant message.
        while count > 0:
            part = min(count, 1_000)
            streams[turn % STREAMS].send(part)
            turn, count, due_count = turn + 1, count - part, due_count + part
        await asyncio.sleep(TICK_SECONDS)
    for stream in streams:
        stream.end()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*receiving), DRAIN_SECONDS)
    for channel in channels:
        await channel.close()
    counts.gave_up = counts.sent - counts.in_time - counts.late - counts.refused_tries
    return counts


def main() -> None:
    """Presses and prints what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["library", "library-exchange", "hostile-exchange"])
    parser.add_argument("address")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    address, rate, seconds = options.address, options.rate, options.seconds
    if options.kind == "hostile-exchange":
        work = hostile(address, rate, seconds)
    else:
        is_batching = options.kind == "library-exchange"
        work = library(address, rate, seconds, is_batching=is_batching)
    print(json.dumps(asyncio.run(work).facts()))


if __name__ == "__main__":
    main()
