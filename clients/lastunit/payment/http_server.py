"""Serves a Starlette app on a free or given port until SIGTERM.

Owns uvicorn's settings, the ready line and the drain. Must not know routes.
Next: `lastunit.payment.webhook_app`, `lastunit.payment.sandbox.app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.applications import Starlette

__all__ = ["HttpServer", "run_http"]

# Beyond it uvicorn answers 503 by itself, which a provider takes as "come back".
CONNECTIONS_MAX: Final = 4_096

BACKLOG: Final = 2_048

DRAIN_SECONDS: Final = 10


class _QuietServer(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again after a clean stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Is one HTTP server in the running event loop.

    Args:
        app: What is served.
        listen: Address to bind, `host:port`; port 0 takes a free one.
    """

    def __init__(self, app: Starlette, *, listen: str) -> None:
        self._socket = _bind(listen)
        host, port = self._socket.getsockname()[:2]
        self.address = f"{host}:{port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Serves; returns the address as bound, `host:port`."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            await asyncio.sleep(0.005)
            if self._task.done():
                await self._task
                raise OSError(f"the server on {self.address} ended as soon as it was started")
        return self.address

    async def stop(self) -> None:
        """Stops accepting, lets calls under way end, then closes."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._socket.close()


def _bind(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"{listen!r} is no address; write host:port, with port 0 for a free one")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A restart must not wait for connections of the process before it.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host.strip("[]"), int(port)))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {listen}: {error.strerror}") from error
    return bound


async def run_http(
    server: HttpServer, *, name: str, on_drained: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains; prints the ready line when it can be called.

    Args:
        server: The server.
        name: Name of the service in the ready line.
        on_drained: Called after the last call has ended.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopping.set)
    try:
        address = await server.start()
        line = json.dumps({"event": "ready", "service": name, "address": address})
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        await stopping.wait()
    finally:
        await server.stop()
        if on_drained is not None:
            await on_drained()
