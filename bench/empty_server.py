"""The empty peer: a grpcio asyncio server that answers each call with an empty message.

Owns: the floor under every Python figure; what gRPC itself costs when nothing is decided.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "lastunit.stock.v1.StockService"


async def answer(_request: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Answers with no bytes, which is a valid message of any type."""
    return b""


async def answer_each(
    requests: AsyncIterator[bytes], _context: grpc.aio.ServicerContext[Any, Any]
) -> AsyncIterator[bytes]:
    """Answers each message of a stream with an empty one."""
    async for _ in requests:
        yield b""


async def serve() -> None:
    """Serves on a free loopback port until SIGTERM; prints the port as a JSON line."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Reserve": grpc.unary_unary_rpc_method_handler(answer),
        "Exchange": grpc.stream_stream_rpc_method_handler(answer_each),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(json.dumps({"event": "ready", "data": f"127.0.0.1:{port}"}), flush=True)
    await stopped.wait()
    await server.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(serve())
