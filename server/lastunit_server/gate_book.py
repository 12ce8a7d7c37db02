"""The operator's orders for the gates, kept through restarts.

Owns the file `gate-orders.jsonl` in the data directory: one line an order, written and flushed
before the order is in force. It is no part of the ledger's journal: a gate moves no unit, and a
ledger must open whatever became of this file. Must not know what a gate shows (see `gates`).
"""

import errno
import json
import logging
import os
import threading
from collections import deque
from io import FileIO
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.types import StringConstraints

from lastunit_server import logs

__all__ = ["FILE_NAME", "GateBook", "Hand", "Order"]

FILE_NAME = "gate-orders.jsonl"
# Orders that can be looked up; older ones of the same sale leave the file at the next start.
ORDERS_KEPT = 1000
# Lines after which a start writes the file anew.
_LINES_MAX = 10_000
# Nobody's hands are that quick; what is larger was not written by us.
_FILE_BYTES_MAX = 64 * 1024 * 1024

Hand = Literal["automatic", "open", "queueing", "closed"]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class Order(BaseModel):
    """What an operator wanted of one gate.

    Attributes:
        sale_id: Whose gate.
        revision: Counts the orders of this sale, from 1.
        hand: What was wanted.
        actor: Who, as they said.
        caller: Who, as the server knows.
        reason: Why, as they said.
        given_ms: When, milliseconds since the epoch.
        until_ms: Ledger time until which it holds; None until it is taken back.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sale_id: Identifier
    revision: int = Field(ge=1)
    hand: Hand
    actor: Identifier
    caller: str = Field(max_length=64)
    reason: str = Field(min_length=1, max_length=256)
    given_ms: int = Field(ge=0)
    until_ms: int | None = None


class GateBook:
    """All orders of one data directory.

    Args:
        directory: Where the ledger's journal is; None keeps orders in memory only.
        is_flushed: Whether an order must survive the loss of power.
    """

    def __init__(self, directory: Path | None, *, is_flushed: bool = True) -> None:
        self._file = directory / FILE_NAME if directory else None
        self._is_flushed = is_flushed
        self._lock = threading.Lock()
        self._last: dict[str, Order] = {}
        self._recent: deque[Order] = deque(maxlen=ORDERS_KEPT)
        if self._file is not None and self._file.exists():
            self._read(self._file)

    def _read(self, file: Path) -> None:
        if file.stat().st_size > _FILE_BYTES_MAX:
            advice = "all gates are left to the measurements; move the file away"
            logs.event("gate_orders_too_large", level=logging.ERROR, file=str(file), advice=advice)
            return
        lines = file.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                self._note(Order.model_validate_json(line))
            except ValidationError:
                # The last one may have been cut by a crash: nobody was told that it holds.
                is_cut = number == len(lines) and not line.endswith(b"\n")
                logs.event(
                    "gate_order_unreadable",
                    level=logging.INFO if is_cut else logging.ERROR,
                    file=str(file),
                    line=number,
                    advice="the line is left out; look at the gates and give the order again",
                )
        is_cut = bool(lines) and not lines[-1].endswith(b"\n")
        if len(lines) > _LINES_MAX or is_cut:
            self._write_anew(file)

    def _note(self, order: Order) -> None:
        self._last[order.sale_id] = order
        self._recent.append(order)

    def _write_anew(self, file: Path) -> None:
        recent = {(order.sale_id, order.revision) for order in self._recent}
        older = [
            order for order in self._last.values() if (order.sale_id, order.revision) not in recent
        ]
        beside = file.with_suffix(".new")
        with beside.open("wb") as out:
            out.writelines(_line(order) for order in (*older, *self._recent))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
        self._sync_directory(file.parent)

    @staticmethod
    def _sync_directory(directory: Path) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def last(self, sale_id: str) -> Order | None:
        """Returns the last order for a sale; None if there never was one."""
        with self._lock:
            return self._last.get(sale_id)

    def all_last(self) -> list[Order]:
        """Returns the last order of each sale."""
        with self._lock:
            return list(self._last.values())

    def recent(self) -> list[Order]:
        """Returns the last orders of all sales, the newest first; up to 1,000."""
        with self._lock:
            return list(reversed(self._recent))

    def write(self, order: Order) -> None:
        """Keeps an order.

        Raises:
            OSError: The disk refused it; it does not hold.
        """
        with self._lock:
            if self._file is not None:
                self._append(self._file, _line(order))
            self._note(order)

    def _append(self, file: Path, line: bytes) -> None:
        is_new = not file.exists()
        with file.open("ab", buffering=0) as out:
            size = out.tell()
            try:
                _write_whole(out, line)
                if self._is_flushed:
                    os.fsync(out.fileno())
            except OSError:
                # What was not acknowledged must not come back after a restart.
                out.truncate(size)
                raise
        if is_new and self._is_flushed:
            self._sync_directory(file.parent)


def _write_whole(out: FileIO, line: bytes) -> None:
    if out.write(line) != len(line):
        raise OSError(errno.ENOSPC, "the disk took a part of the line only")


def _line(order: Order) -> bytes:
    return json.dumps(order.model_dump(), ensure_ascii=False).encode() + b"\n"
