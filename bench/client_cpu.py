"""Measures what one Reserve costs the client, by how many callers share its connection.

Owns: the figure "client CPU per Reserve". The server is a process of its own that answers every
operation with the same refusal and does nothing else, so only the client is measured.
Run it as `python -m bench.client_cpu`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from bench import machine
from lastunit.client.aio import Line, Outcome, StockClient
from lastunit.stock.v1 import outcome_pb2, stock_service_pb2

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

# Callers at once, calls of a run, and whether they share messages.
SHAPES = [
    (1, 2_000, True),
    (64, 20_000, True),
    (1_000, 50_000, True),
    (20_000, 100_000, True),
    (64, 4_000, False),
]


def serve(ready: Connection) -> None:
    """Serves refusals until it is terminated."""
    asyncio.run(_serve(ready))


async def _serve(ready: Connection) -> None:
    reply = stock_service_pb2.Reply()
    reply.reserve.result.outcome = outcome_pb2.OUTCOME_SOLD_OUT
    reply.reserve.result.sku = "phone"
    reply.reserve.place.as_of_sequence = 5
    reply.reserve.place.epoch = 1
    refusal = reply.reserve.SerializeToString()
    part = stock_service_pb2.ExchangeResponse(replies=[reply]).SerializeToString()

    async def exchange(messages: Any, _context: object) -> Any:
        async for message in messages:
            head = stock_service_pb2.ExchangeResponse(exchange_id=message.exchange_id)
            yield head.SerializeToString() + part * len(message.operations)

    async def reserve(_request: bytes, _context: object) -> bytes:
        return refusal

    handlers: dict[str, Any] = {
        "Exchange": grpc.stream_stream_rpc_method_handler(
            exchange, stock_service_pb2.ExchangeRequest.FromString, None
        ),
        "Reserve": grpc.unary_unary_rpc_method_handler(reserve, None, None),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("lastunit.stock.v1.StockService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.send(port)
    await server.wait_for_termination()


async def measure(port: int, *, callers: int, calls: int, is_batching: bool) -> dict[str, Any]:
    """Makes the calls, each caller one after the other, and returns what they cost."""
    lines = [Line("phone")]
    calls_each = calls // callers
    async with StockClient(
        f"127.0.0.1:{port}", is_batching=is_batching, deadline_seconds=300
    ) as client:

        async def call(name: str) -> None:
            reply = await client.reserve(name, sale_id="flash", person_id=name, lines=lines)
            assert reply.outcome is Outcome.SOLD_OUT

        async def caller(number: int) -> None:
            for index in range(calls_each):
                await call(f"order-{number}-{index}")

        await call("warm-up")
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    made = calls_each * callers
    return {"cpu_microseconds_per_call": cpu / made * 1e6, "calls_per_second": made / wall}


async def measure_all(port: int, *, run_count: int) -> list[dict[str, Any]]:
    """Runs every shape and prints its median."""
    results: list[dict[str, Any]] = []
    for callers, calls, is_batching in SHAPES:
        runs = [
            await measure(port, callers=callers, calls=calls, is_batching=is_batching)
            for _ in range(run_count)
        ]
        costs = [run["cpu_microseconds_per_call"] for run in runs]
        shape = f"{callers:>6} callers, {'sharing' if is_batching else 'each call alone'}"
        low, middle, high = min(costs), statistics.median(costs), max(costs)
        print(f"{shape:<32} {middle:7.1f} us of CPU a call ({low:.1f} to {high:.1f})")
        results.append({"callers": callers, "is_batching": is_batching, "runs": runs})
    return results


def main() -> None:
    """Runs every shape, prints medians and writes the raw figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", type=Path, default=None, help="file for the raw figures")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        results = asyncio.run(measure_all(ours.recv(), run_count=arguments.runs))
    finally:
        process.terminate()
        process.join()
    if arguments.output is not None:
        stamped = {**machine.facts(), "results": results}
        arguments.output.write_text(json.dumps(stamped, indent=2) + "\n")


if __name__ == "__main__":
    main()
