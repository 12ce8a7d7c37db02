"""Notices a cancellation that grpc.aio has swallowed.

Owns that one workaround. A task that is cancelled while a stream is being opened hands the
cancellation to grpc's own task, which takes it for the end of the call and returns. If the
connection fails at the same moment, our task sees only that failure, tries again, and whoever
cancelled it waits for ever. Seen with grpcio 1.85.1.
"""

from __future__ import annotations

import asyncio

__all__ = ["CancellationGuard"]


class CancellationGuard:
    """Remembers how often the current task had been asked to stop when this was made."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0

    @property
    def is_cancelled(self) -> bool:
        """True if the task has been asked to stop since."""
        return self._task is not None and self._task.cancelling() > self._before

    def check(self) -> None:
        """Raises the cancellation if there was one.

        Raises:
            asyncio.CancelledError: The task has been asked to stop since.
        """
        if self.is_cancelled:
            raise asyncio.CancelledError
