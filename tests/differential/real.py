"""The real ledger as the differential test drives it: native node, manual clock.

Owns opening, closing and calling the node. Must not compare anything.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

from google.rpc import error_details_pb2, status_pb2

from lastunit.reference.words import timestamp
from lastunit.stock.v1 import journal_service_pb2 as journal_pb2
from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2
from lastunit_server import _native

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from google.protobuf.message import Message

CALLER: Final = "differential"
PATIENCE_MS: Final = 60_000
EVENTS_PER_READ: Final = 4_096
NO_BUCKET: Final = {"rate_per_second": None, "burst": None}
FREE_LANE: Final = NO_BUCKET | {"calls_in_flight_max": 16_384}
EXCHANGE: Final = "lastunit.stock.v1.StockService/Exchange"

# The field of an Operation, and of a Reply, for each request that fits into a batch.
FIELD_OF_REQUEST: Final = {
    field.message_type.name: field.name
    for field in stock_pb2.Operation.DESCRIPTOR.oneofs_by_name["request"].fields
}


class FaultError(Exception):
    """The node refused a call that the model takes as valid."""


class RealLedger:
    """One node in a directory of its own.

    Args:
        directory: A directory that it may fill.
        now_ms: First ledger time.
        snapshot_events: Events between two snapshots, 1,000 or more.

    Attributes:
        directory: Where the journal lies now.
        now_ms: Ledger time as it was set last.
    """

    def __init__(self, directory: Path, *, now_ms: int, snapshot_events: int = 1_000) -> None:
        self._root = directory
        self._copies = 0
        self.directory = directory / "data-0"
        self.now_ms = now_ms
        self._settings: dict[str, Any] = {
            "clock": "manual",
            "manual_start_ms": now_ms,
            "durability": "written",
            "journal": {
                "segment_bytes": 262_144,
                "kept_back_bytes": 0,
                "snapshot_events": snapshot_events,
            },
            "admission": {
                "version": 1,
                "lanes": {"reservation": FREE_LANE, "read": FREE_LANE, "settlement": FREE_LANE},
                "callers": {"default": NO_BUCKET},
            },
        }
        self._node = self._open()

    def _open(self) -> _native.Node:
        settings = self._settings | {"data_directory": str(self.directory)}
        return _native.Node(json.dumps(settings))

    @property
    def epoch(self) -> int:
        """Returns the number of the present opening, which is drawn at random."""
        return self._node.health()[2]

    def call(self, request: Message) -> Any:
        """Sends one unary request; returns the response."""
        name = type(request).DESCRIPTOR.name.removesuffix("Request")
        module = stock_pb2 if hasattr(stock_pb2, f"{name}Response") else admin_pb2
        service = "StockService" if module is stock_pb2 else "StockAdminService"
        body = self._send(f"lastunit.stock.v1.{service}/{name}", request)
        return getattr(module, f"{name}Response").FromString(body)

    def exchange(self, requests: Sequence[Message]) -> list[Any]:
        """Sends requests as one batch; returns a response for each."""
        batch = stock_pb2.ExchangeRequest(
            operations=[
                stock_pb2.Operation(**{FIELD_OF_REQUEST[type(request).DESCRIPTOR.name]: request})
                for request in requests
            ]
        )
        replies = stock_pb2.ExchangeResponse.FromString(self._send(EXCHANGE, batch)).replies
        return [getattr(reply, reply.WhichOneof("response")) for reply in replies]

    def set_clock(self, now_ms: int) -> Any:
        """Moves ledger time and lets every due timer run; returns the response."""
        self.now_ms = now_ms
        request = rehearsal_pb2.SetClockRequest(now_time=timestamp(now_ms))
        body = self._send("lastunit.stock.v1.RehearsalService/SetClock", request)
        return rehearsal_pb2.SetClockResponse.FromString(body)

    def _send(self, path: str, request: Message) -> bytes:
        body = request.SerializeToString()
        code, answer = self._node.call(path, body, CALLER, PATIENCE_MS, 0, "data")
        if code:
            status = status_pb2.Status.FromString(answer)
            info = error_details_pb2.ErrorInfo()
            for detail in status.details:
                detail.Unpack(info)
            message = f"{path}: {status.code} {info.reason} {status.message}"
            raise FaultError(message)
        return answer

    def events(self, after: int = 0) -> list[Any]:
        """Reads the events from the journal that come after a sequence."""
        events: list[Any] = []
        while True:
            body, after = self._node.read_events(after, EVENTS_PER_READ)
            page = journal_pb2.ReadEventsResponse.FromString(body).events
            if not page:
                return events
            events += page

    def reopen(self) -> None:
        """Closes the node, which writes a snapshot, and opens it again from there."""
        self._node.close()
        self._node = self._open()

    def recover(self) -> None:
        """Opens a copy that was taken while the node ran, as if its process had died."""
        self._copies += 1
        copy = self._root / f"data-{self._copies}"
        shutil.copytree(self.directory, copy, ignore=shutil.ignore_patterns("*.lock", "LOCK"))
        self._node.close()
        shutil.rmtree(self.directory)
        self.directory = copy
        self._node = self._open()

    def close(self) -> None:
        """Closes the node and removes its files."""
        self._node.close()
        shutil.rmtree(self.directory)
