# ruff: noqa: PYI021 - this stub is where the binding is documented for its readers.
"""The node of lastunit as a Python extension: bytes in, bytes out, nothing decided in Python.

Owns: the border between Python and the Rust crates `lastunit-node`, `lastunit-wire` and
`lastunit-journal`.
Must not: hold a rule about stock, hold the GIL while it decides, waits or writes.
Where next: `core_rs/python/README.md`, `core_rs/node/README.md`.

Settings of a node (the JSON text that `Node` takes; an unknown key is an error)::

    {
      "data_directory": "/var/lib/lastunit",  required; made if missing, one owner at a time
      "durability": "flushed",          flushed (fdatasync) | written (the OS has it) | memory
      "clock": "system",                system | manual (rehearsals: RehearsalService.SetClock)
      "manual_start_ms": 0,             first ledger time of an empty journal, manual clock only
      "journal": {
        "segment_bytes": 16777216,      256 KiB to 1 GiB, size of one segment
        "kept_back_bytes": 8388608,     0 to 1 GiB, room on the disk that only settlement may use
        "snapshot_events": 200000       1,000 to 100,000,000 events between two snapshots
      },
      "timer_step_limit": 256,          1 to 4,096 due commands decided under one lock hold
      "timer_interval_ms": 50,          5 to 10,000, how often the system clock is looked at
      "batch_chunk_operations": 64,     1 to 4,096 operations of a batch under one lock hold
      "watch_interval_ms": 20,          1 to 10,000, how long changes are gathered for a watch
      "admission": {
        "version": 1,
        "lanes": {                      tokens, decimals allowed to the millionth; null: no bucket
          "settlement":  {"rate_per_second": null, "burst": null, "calls_in_flight_max": 16384},
          "reservation": {"rate_per_second": 50000, "burst": 5000, "calls_in_flight_max": 16384},
          "read":        {"rate_per_second": 50000, "burst": 5000, "calls_in_flight_max": 4096},
          "control":     {"calls_in_flight_max": 64}
        },
        "callers": {                    "default" is each caller that is not named
          "default": {"rate_per_second": null, "burst": null},
          "order-service": {"rate_per_second": 20000, "burst": 2000}
        },
        "callers_max": 10000,           1 to 1,000,000 callers with a bucket; the rest share one
        "costs": {"Reserve": 1.0, "GetReservation": 0.05, "per_line": 0.2}
      }
    }

Everything but `data_directory` has a default. A bucket never refuses settlement or control: what
they do is charged and may overdraw; only the bound on calls in flight refuses them.

Methods are full gRPC paths such as `lastunit.stock.v1.StockService/Reserve`, with or without a
leading slash. Every unary method of StockService, StockAdminService and RehearsalService is taken,
and `StockService/Exchange` with one ExchangeRequest, answered by one ExchangeResponse. The streams
are `watch` and `read_events` below.
"""

from typing import final

__version__: str

class NodeOpenError(Exception):
    """The node cannot be opened; the text says what happened and what to do.

    `args` is `(message, reason)`; reason is a stable name: SETTINGS_INVALID, DIRECTORY_IN_USE,
    JOURNAL_CORRUPT, JOURNAL_FAILED, AUDIT_FAILED.
    """

@final
class CompletionPort:
    """Where answers arrive that could not be given at once; made by `Node.port`.

    One port belongs to one event loop. Answers that one flush made durable cost one wake-up.
    """

    def fileno(self) -> int:
        """Returns the eventfd to give to `loop.add_reader`; readable while answers wait.

        The port owns it: it is closed when the port is dropped, never by the caller.
        """

    def drain(self) -> list[tuple[int, int, bytes]]:
        """Takes all waiting answers and resets the eventfd.

        Returns:
            `(ticket, code, body)` in the order in which they became durable. `code` is a gRPC
            status code: with 0 `body` is the serialized response, else a serialized
            `google.rpc.Status` with ErrorInfo, and RetryInfo when waiting helps.
        """

@final
class Watch:
    """One WatchAvailability stream; made by `Node.watch`, ended by dropping it."""

    def next(self, port: CompletionPort, ticket: int) -> None:
        """Asks for the next message; it comes through the port as a WatchAvailabilityResponse.

        The first message shows the present state; each later one only what changed since. It
        comes when there is a change, at most once each `watch_interval_ms`, and never shows a state
        that a crash could take back. One request may be pending at a time.

        Raises:
            RuntimeError: A request is pending already.
        """

@final
class Node:
    """One open ledger: engine, journal, admission, ledger time.

    Args:
        settings_json: The settings drawn in this module's docstring.

    Raises:
        NodeOpenError: Settings, directory or journal are not usable.
    """

    def __new__(cls, settings_json: str) -> Node: ...
    def port(self) -> CompletionPort:
        """Makes a completion port; drop it when its event loop ends."""

    def submit(
        self,
        port: CompletionPort,
        ticket: int,
        method: str,
        request: bytes,
        caller: str,
        deadline_ms: int | None,
        seen_sequence: int,
        listener: str,
        seen_epoch: int = 0,
    ) -> tuple[int, bytes] | None:
        """Serves one call; never blocks on the disk.

        Args:
            port: Where the answer arrives if it has to wait for the disk.
            ticket: Given back with the answer, 0 to 2**64 - 1.
            method: Full gRPC path.
            request: Serialized request message, at most 4 MiB.
            caller: Who calls, 1 to 64 bytes of `[A-Za-z0-9._:-]`; a bucket is kept for each.
            deadline_ms: Milliseconds left until the caller's deadline; None for no deadline. A call
                whose time is up has no effect.
            seen_sequence: Highest sequence that the caller has seen, 0 if none.
            listener: `data` or `settlement`; on `settlement` Reserve is refused as WRONG_LISTENER,
                in an Exchange operation by operation.
            seen_epoch: Highest epoch that the caller has seen, 0 if none.

        Returns:
            `(code, body)` as in `CompletionPort.drain` if the answer is there, None if it comes
            through the port. Each ticket is answered exactly once.
        """

    def call(
        self,
        method: str,
        request: bytes,
        caller: str,
        timeout_ms: int | None,
        seen_sequence: int,
        listener: str,
        seen_epoch: int = 0,
    ) -> tuple[int, bytes]:
        """Serves one call and waits for its answer with the GIL released.

        Arguments as in `submit`. After `timeout_ms` the answer is DEADLINE_EXCEEDED; an effect that
        was already decided then stands, and the same id finds it.
        """

    def watch(self, request: bytes) -> Watch | tuple[int, bytes]:
        """Starts a WatchAvailability stream from one serialized request.

        Returns:
            The stream, or `(code, body)` if the request is refused.
        """

    def read_events(self, after_sequence: int, limit: int) -> tuple[bytes, int]:
        """Reads durable events.

        Args:
            after_sequence: Position after which to start, 0 or more.
            limit: How many events, 1 to 4,096; whole commands only, so a few more may come.

        Returns:
            A serialized ReadEventsResponse (no events if there are none yet) and the sequence to
            go on after.

        Raises:
            ValueError: An argument is out of range or lies beyond the end of the journal.
            OSError: The journal cannot be read.
        """

    def notify_after(self, port: CompletionPort, ticket: int, sequence: int) -> None:
        """Answers `(0, b"")` through the port once an event after `sequence` is durable."""

    def health(self) -> tuple[bool, str, int, int, int]:
        """Returns `(serving, reason, epoch, sequence, durable_sequence)`.

        The reason is empty while calls are served, else DRAINING, CLOSED, JOURNAL_FAILED or
        NODE_POISONED.
        """

    def metrics_json(self) -> str:
        """Returns counters and gauges as one JSON object; drawn in core_rs/node/README.md."""

    def drain(self, timeout_ms: int) -> bool:
        """Refuses new calls as DRAINING and waits for those under way, with the GIL released.

        Returns:
            Whether all were answered in time.
        """

    def close(self) -> None:
        """Drains, flushes, writes a snapshot, seals the journal and gives the directory back.

        Raises:
            OSError: The journal failed; what was acknowledged before is on disk.
        """

def audit_directory(path: str) -> str:
    """Rebuilds the ledger of a directory and checks every invariant.

    Nothing is written. If a node has the directory open, what was durable at that moment is shown.

    Returns:
        JSON: `{"holds", "sequence", "epoch", "time_ms", "findings": [{"invariant", "subject",
        "message"}], "pools": [{"sale_id", "sku", "pool", "supplied", "withdrawn", "written_off",
        "available", "buffer", "held", "paying", "overdue", "sold", "quarantine"}],
        "reservations": {state: count}, "notes": [text], "unfinished_tail": null or {"position",
        "bytes"}}`.

    Raises:
        NodeOpenError: The directory cannot be read or its journal cannot be recovered.
    """

def read_directory_events(path: str, after_sequence: int, limit: int) -> tuple[bytes, int]:
    """Reads events of a directory; arguments and result as `Node.read_events`.

    Nothing is written. If a node has the directory open, what was durable at that moment is shown.

    Raises:
        ValueError: An argument is out of range or lies beyond the end of the journal.
        OSError: The directory or its journal cannot be read.
    """
