"""Joins the node's completion port to one asyncio loop.

Owns the tickets: each is given once, answered once, and forgotten when its call ends. The node
answers from its flush thread; one wake-up of the loop takes every answer of that flush.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lastunit_server import logs

if TYPE_CHECKING:
    from lastunit_server._native import CompletionPort, Node

__all__ = ["Answer", "Completions"]

# A gRPC status code, and the reply or a serialized google.rpc.Status.
Answer = tuple[int, bytes]


class Completions:
    """Answers that come later, as awaitables. Used on one loop only.

    Args:
        node: The open node.
        loop: The running loop.
    """

    def __init__(self, node: "Node", loop: asyncio.AbstractEventLoop) -> None:
        self._node = node
        self._loop = loop
        self._port: CompletionPort = node.port()
        self._file = self._port.fileno()
        self._tickets = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        loop.add_reader(self._file, self._on_ready)

    @property
    def waiting_count(self) -> int:
        """Calls whose answer is not there yet."""
        return len(self._waiting)

    def submit(
        self,
        method: str,
        request: bytes,
        *,
        caller: str,
        deadline_ms: int | None,
        seen_sequence: int,
        seen_epoch: int,
        listener: str,
    ) -> Answer | Awaitable[Answer]:
        """Hands one call to the node; arguments as in `Node.submit`.

        Returns:
            The answer if it is there at once, else what to await.
        """
        ticket = next(self._tickets)
        answer = self._node.submit(
            self._port,
            ticket,
            method,
            request,
            caller,
            deadline_ms,
            seen_sequence,
            listener,
            seen_epoch,
        )
        # The port is drained on this loop only, so its answer can't overtake the future.
        return answer if answer is not None else self._future(ticket)

    async def ask(self, start: "Callable[[CompletionPort, int], None]") -> Answer:
        """Awaits an answer that something else than `submit` asks for.

        Args:
            start: Called with the port and a fresh ticket; raises if it can't ask.

        Returns:
            The answer.
        """
        ticket = next(self._tickets)
        start(self._port, ticket)
        try:
            return await self._future(ticket)
        finally:
            # Who gave up waiting leaves nothing behind: the answer may never come.
            self._waiting.pop(ticket, None)

    def _future(self, ticket: int) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[ticket] = future
        return future

    def _on_ready(self) -> None:
        try:
            answers = self._port.drain()
        except Exception:  # noqa: BLE001 - a loop callback has no caller to tell
            logs.event("completion_port_failed", level=logging.ERROR, exception=True)
            return
        waiting = self._waiting
        for ticket, code, body in answers:
            # Done already: the caller hung up. What was decided stands and its id finds it.
            future = waiting.pop(ticket, None)
            if future is not None and not future.done():
                future.set_result((code, body))

    def close(self) -> None:
        """Stops listening; what still waits is cancelled."""
        self._loop.remove_reader(self._file)
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()
