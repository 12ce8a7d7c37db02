"""An HTTP listener on a port, a thread and a loop of its own.

Owns uvicorn's settings and the life of one listener; must not know a route. The loop is not the
data listener's: a page that is slow to make must not stand before a reservation.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import uvicorn

from lastunit_server.errors import StartError
from lastunit_server.settings import host_and_port

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = ["HttpListener"]

_BACKLOG = 2048
# Streams that never end by themselves are cut after this.
_DRAIN_SECONDS = 1
_START_SECONDS = 10.0


class _QuietServer(uvicorn.Server):
    """Leaves signals to the server's life."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpListener:
    """One port.

    Args:
        app: What is served.
        address: `host:port`; port 0 takes a free one.
        setting: Name of the address's setting, for errors.
        connections_max: Connections and calls at once; more are told 503.

    Raises:
        StartError: The port is taken or the address is not ours.
    """

    def __init__(
        self, app: "Starlette", address: str, *, setting: str, connections_max: int
    ) -> None:
        self._socket = _bind(address, setting)
        port = self._socket.getsockname()[1]
        self.address = f"{address.rpartition(':')[0]}:{port}"
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                limit_concurrency=connections_max,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            )
        )
        self._is_started = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"http-{setting}", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()
        self._is_started.wait(_START_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._is_started.set()
        await self._server.serve(sockets=[self._socket])

    def close(self) -> None:
        """Stops listening and cuts what still streams; blocks until then."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_START_SECONDS)
        self._socket.close()


def _bind(address: str, setting: str) -> socket.socket:
    host, port = host_and_port(address)
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # A restart must not wait for connections of the process before it.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise StartError(
            f"{setting} = {address!r} can't be bound: {error.strerror}; stop what listens there or"
            f" set another {setting}"
        ) from error
    return bound
