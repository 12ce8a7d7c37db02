"""Starts, watches and stops child processes.

Owns their life: the ready line, the log file, signals and the certainty that none is left behind.
Must not know what the children do. Next: ``lastunit.run.services`` knows command lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Child", "ChildError", "stop_all"]

READY_SECONDS_MAX: Final = 60.0
"""A first start compiles byte code and creates databases; a machine under load takes a while."""

STOP_SECONDS_MAX: Final = 15.0
"""A service drains for at most 10 s; then it is killed."""

LOG_LINES_SHOWN: Final = 20

_LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""The report of the buyers is one line with every order in it."""


class ChildError(Exception):
    """A child did not become ready or died; the text has the end of its log."""


class Child:
    """One child process.

    Args:
        name: What it is, for messages and the name of its log.
        command: Program and arguments.
        log_directory: Where its standard error is written.
        secrets: Variables added to its environment; unlike arguments, others cannot read them.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_directory: Path,
        secrets: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._environment = {**os.environ, **(secrets or {})}
        self.log_path = log_directory / f"{name}.log"
        self.command = list(command)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[dict[str, Any]] | None = None
        self.is_stopping = False

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id; the process must have been started."""
        assert self._process is not None
        return self._process.pid

    async def start(
        self,
        *,
        text: str | None = None,
        on_line: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Starts the process and waits for its ready line.

        Args:
            text: Written to its standard input, which is closed after that.
            on_line: Called with each later JSON line of its standard output.

        Returns:
            The ready line.

        Raises:
            ChildError: It ended first or took longer than READY_SECONDS_MAX.
        """
        self.is_stopping = False
        self._ready = asyncio.get_running_loop().create_future()
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "lastunit.service.leash",
                str(os.getpid()),
                *self.command,
                stdin=asyncio.subprocess.PIPE if text is not None else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                limit=_LINE_BYTES_MAX,
                # Ctrl-C goes to the whole foreground group; only the parent decides who stops when.
                start_new_session=True,
            )
        if text is not None and self._process.stdin is not None:
            self._process.stdin.write(text.encode())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await self._process.stdin.drain()
            self._process.stdin.close()
        self._reader = asyncio.create_task(self._read(self._process, on_line))
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                return await self._ready
        except TimeoutError as error:
            raise ChildError(
                f"{self.name} was not ready within {READY_SECONDS_MAX:.0f} s\n{self.last_lines()}"
            ) from error

    def cpu_seconds(self) -> float:
        """Tells how much processor time the process has used; 0 where the system does not say."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        # After the name, which may contain anything, fields 14 and 15 are user and system ticks.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def wait(self) -> int:
        """Waits until the process has ended and its output is read; returns its exit code."""
        assert self._process is not None and self._reader is not None  # noqa: PT018 - one fact
        code = await self._process.wait()
        await asyncio.gather(self._reader, return_exceptions=True)
        return code

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all it has started."""
        self.is_stopping = True
        if self._process is not None and self.is_running:
            # Its session is its own, so its process group has its pid.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def last_lines(self) -> str:
        """Gives the end of the log, for a message."""
        try:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        shown = "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])
        return f"last lines of {self.log_path}:\n{shown or '  (empty)'}"

    async def _read(
        self,
        process: asyncio.subprocess.Process,
        on_line: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        assert process.stdout is not None and self._ready is not None  # noqa: PT018 - one fact
        ready = self._ready
        with self.log_path.with_suffix(".out").open("ab") as kept:
            async for line in process.stdout:
                kept.write(line)
                message = _parsed(line)
                if message is None:
                    continue
                if message.get("event") == "ready" and not ready.done():
                    ready.set_result(message)
                elif on_line is not None:
                    on_line(message)
        code = await process.wait()
        if not ready.done():
            ready.set_exception(
                ChildError(f"{self.name} ended with status {code}\n{self.last_lines()}")
            )


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


async def stop_all(children: Sequence[Child]) -> None:
    """Asks every child to stop, waits, and kills what is still there.

    Args:
        children: In the order in which they are asked; all drain at the same time.
    """
    running = [child for child in children if child.is_running]
    for child in running:
        child.send(signal.SIGTERM)
    waits = [asyncio.create_task(child.wait()) for child in running]
    try:
        if waits:
            await asyncio.wait(waits, timeout=STOP_SECONDS_MAX)
    finally:
        # Also reached by a second Ctrl-C: whatever happens, nothing is left running.
        for child in running:
            child.send(signal.SIGKILL)
        await asyncio.gather(*waits, return_exceptions=True)
