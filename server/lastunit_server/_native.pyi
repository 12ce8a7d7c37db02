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
        "snapshot_events": 200000,      1,000 to 100,000,000 events between two snapshots at least;
                                        more where there are more reservations than twice that
        "history_seconds_min": 604800,  0 to 3,153,600,000 seconds for which events are kept
        "history_bytes_max": 17179869184, 1 MiB to 1 PiB of journal; above, the oldest go anyway
        "reader_seconds_max": 604800    1 to 3,153,600,000 seconds after which a silent reader is
                                        forgotten
      },
      "memory": {
        "ledger_bytes_max": 0           1 MiB to 1 PiB that the ledger may hold before Reserve is
                                        refused as MEMORY_LIMIT; 0: two fifths of the machine's
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
      },                                holds while there is no document
      "policy": {                       the admission policy as a document; takes its place
        "document": "version = 1",      TOML, docs/reference/admission-policy.md
        "origin": "file"                file: put as a revision where it is new; built_in: holds
      },                                until one is put
      "arrivals": {                     null: none are kept
        "directory": "/var/lib/arrivals",  a directory of their own; made if missing, one owner
        "bytes_max": 1073741824         1 MiB to 1 TiB of recording; the oldest go first
      }
    }

Everything but `data_directory` has a default. A bucket never refuses settlement or control: what
they do is charged and may overdraw; only the bound on calls in flight refuses them.

Methods are full gRPC paths such as `lastunit.stock.v1.StockService/Reserve`, with or without a
leading slash. Every unary method of StockService, StockAdminService and RehearsalService is taken,
and `StockService/Exchange` with one ExchangeRequest, answered by one ExchangeResponse. The streams
are `watch` and `read_events` below.
"""

from collections.abc import Callable
from typing import final

__version__: str

class NodeOpenError(Exception):
    """The node cannot be opened; the text says what happened and what to do.

    `args` is `(message, reason)`; reason is a stable name: SETTINGS_INVALID, DIRECTORY_IN_USE,
    JOURNAL_CORRUPT, JOURNAL_FAILED, POLICY_DAMAGED, AUDIT_FAILED, SYSTEM_LIMIT; from
    `DirectoryView` also EVENTS_REMOVED and SEQUENCE_NOT_REACHED.
    """

class EventsRemovedError(ValueError):
    """The events asked for were removed, because a snapshot holds what they did.

    `args` is `(message, "EVENTS_REMOVED", first_sequence)`; reading goes on after
    `first_sequence - 1`, with a state of the reader's own that is compared with the ledger's first.
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
class NativeFront:
    """A listener that serves a node without Python: StockService and, by listener, the others.

    Args:
        node: The open node; it is kept open as long as the front serves.
        address: A literal address and port; port 0 lets the kernel choose.
        listener: `data` or `settlement`.
        is_rehearsal: Whether RehearsalService is served.
        has_reflection: Whether reflection is served.
        thread_count: Threads that serve, 1 to 64.
        limits_json: What a stranger may cost, an object of whole numbers, each 1 or more: the
            fields of `Limits` in core_rs/front/src/limits.rs, all of them.
        material: PEM of certificate with chain, private key and clients' authorities; None speaks
            plain text.
        credentials_json: `{"tokens": null | [{"id", "caller", "sha256", "expires_ms"}],
            "certificates": {"CN:name": "caller"}, "has_certificates": bool}`.
        latency_bounds: Upper bounds in seconds of the spans in which calls are counted, rising.
        is_traced: Whether finished unary calls are kept until `take_traced_calls`.
        control: What answers AdmissionService: gets gRPC path, caller and message, gives a status
            code and the reply or a serialized `google.rpc.Status`, and must not raise. It asks the
            node's table itself. Of a watch it gives what is to be seen now; `tell_news` has it
            asked again. None serves no such method.

    Raises:
        OSError: The address can't be bound or the certificates can't be used; args are
            `(message, "FRONT_FAILED")`.
        ValueError: An argument out of range.
    """

    def __new__(
        cls,
        node: Node,
        *,
        address: str,
        listener: str,
        is_rehearsal: bool,
        has_reflection: bool,
        thread_count: int,
        limits_json: str,
        material: tuple[bytes, bytes, bytes | None] | None,
        credentials_json: str,
        latency_bounds: tuple[float, ...],
        is_traced: bool,
        control: Callable[[str, str, bytes], tuple[int, bytes]] | None,
    ) -> NativeFront: ...
    @property
    def address(self) -> str:
        """Where it listens, with the real port."""

    def set_other_address(self, address: str) -> None:
        """Names the listener that serves the other kind of calls, for callers that knock here."""

    def set_health(self, is_serving: bool) -> None:
        """Sets what health says, of the server and of each service."""

    def tell_news(self) -> None:
        """Has every watch that `control` answers look again."""

    def replace_material(self, material: tuple[bytes, bytes, bytes | None]) -> None:
        """Gives new connections other certificates; open ones keep theirs.

        Raises:
            ValueError: They can't be used; the old stay in force.
        """

    def replace_credentials(self, credentials_json: str) -> None:
        """Puts other credentials in force; open streams look again, at the node's table too.

        Raises:
            ValueError: The text has another form; the old stay in force.
        """

    def counts(self) -> list[tuple[str, int, int]]:
        """Returns finished calls as gRPC path, status code and count."""

    def latencies(self) -> list[tuple[str, list[int], float]]:
        """Returns how long unary calls took: gRPC path, calls by span, seconds together."""

    def take_traced_calls(self) -> tuple[list[tuple[str, int, int, int, str, str]], int]:
        """Takes the finished unary calls that a collector is to be told of, the oldest first.

        Returns:
            gRPC path, begin and end in nanoseconds since 1970, status code, the caller's
            `traceparent` and `tracestate` (empty if it sent none); and how many were lost since
            this was last taken, because at most 8,192 are kept.
        """

    @property
    def open_count(self) -> int:
        """Calls and streams of ours that are not finished."""

    @property
    def connection_count(self) -> int:
        """Connections that are open."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of answers not taken and of messages not whole."""

    def refusals(self) -> list[tuple[str, int]]:
        """Returns connections and calls refused or ended to protect the others, by reason."""

    def take_unknown_callers(self) -> tuple[str, str, int] | None:
        """Takes what there is to log of callers that were not let in.

        Returns:
            Where the last one called from, what it was told, and how many there were since this
            was last taken; None if there was none.
        """

    def stop(self, grace_ms: int) -> None:
        """Stops accepting, ends streams, lets calls finish for `grace_ms`, ends the threads."""

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

    def set_permissions(self, table_json: str | None) -> None:
        """Replaces the table of who may call what; a call sees the old one or the new one.

        Args:
            table_json: `{"rules": [{"callers": [name or "*"], "methods": [name], "sales":
                [pattern]}]}` with at most 1,000 rows, where `*` in a sale stands for any run of
                characters; None lets every caller do everything. With a table, `submit` and `call`
                answer PERMISSION_DENIED with reason NOT_PERMITTED to what no row names, in an
                Exchange operation by operation.

        Raises:
            ValueError: The text has another form; the old table stays.
        """

    def permission_refusal(
        self, caller: str, method: str, sale_id: str | None, is_any_sale: bool
    ) -> tuple[int, bytes] | None:
        """Asks the table about a method that is not served by `submit` or `call`.

        Args:
            caller: As in `submit`.
            method: The method's own name, such as `ReadEvents`.
            sale_id: The sale that it is about; None if it is about the whole ledger.
            is_any_sale: With None: whether a permission for some sale is enough.

        Returns:
            None if the caller may, else `(code, body)` as in `CompletionPort.drain`.
        """

    def set_gate_settings(self, settings_json: str) -> None:
        """Replaces what all gates are judged by.

        Args:
            settings_json: An object of whole numbers; a missing key has its default::

                {
                  "queue_at": 800,               1 to close_at, thousandths of what can be borne
                  "close_at": 1000,              up to 10,000
                  "reopen_at": 500,              below queue_at
                  "dwell_ms": 1000,              0 to 3,600,000 of low pressure for each step back
                  "settled_per_second_milli": 0, 0 to 1,000,000,000; 0 leaves the queue unbounded
                  "pay_p99_ms": 0,               0 to 86,400,000
                  "margin_ms": 0                 0 to 86,400,000
                }

        Raises:
            ValueError: A setting is unknown or out of range; the old ones stay.
        """

    def set_gate_hand(self, sale_id: str, hand: str | None, until_ms: int | None = None) -> bool:
        """Lays the operator's hand on a gate; what it shows is measured anew before this returns.

        Args:
            sale_id: Whose gate.
            hand: `open`, `queueing` or `closed`; None leaves the gate to the measurements.
            until_ms: Ledger time until which it holds; None until it is taken away.

        Returns:
            Whether there is such a sale.

        Raises:
            OSError: The node has stopped at a bug.
        """

    def gates_json(self, after_version: int) -> str | None:
        """Shows all gates, as `core_rs/node/README.md` draws them.

        Args:
            after_version: `version` of what was shown before, 0 at first.

        Returns:
            None if nothing else is to be shown since.
        """

    def put_policy(
        self,
        document: str,
        actor: str,
        reason: str,
        caller: str,
        origin: str,
        expected_revision: int | None = None,
        effect_time_ms: int | None = None,
        is_dry_run: bool = False,
        roll_back_to: int | None = None,
    ) -> tuple[int, bytes]:
        """Puts an admission policy as a new revision; blocks until it is on the disk.

        Args:
            document: The TOML text; not looked at with `roll_back_to`.
            actor: Who wants it, 1 to 64 bytes of `[A-Za-z0-9._:-]`.
            reason: Why, 1 to 256 bytes.
            caller: Who calls.
            origin: `file` or `service`.
            expected_revision: The last revision that the caller knows; None takes any.
            effect_time_ms: Ledger time at which it takes effect; None is now.
            is_dry_run: Whether to change nothing.
            roll_back_to: The revision whose document is put again.

        Returns:
            `(0, JSON)` with `revision`, `in_force`, `effect_time_ms` and `changes` (rows of `key`,
            `before`, `after`), or a code and a serialized `google.rpc.Status`: POLICY_INVALID,
            REVISION_MISMATCH, UNKNOWN_REVISION, INVALID_FIELD, POLICY_NOT_KEPT.
        """

    def policy_json(self) -> str:
        """Returns `in_force`, `next` (revisions), `last_revision`, `settings` and `shadow`."""

    def revisions_json(self, before: int, limit: int) -> str:
        """Returns `revisions` before a number, newest first, with `oldest` and `in_force`.

        Args:
            before: The revision after the first one wanted; 0 begins with the newest.
            limit: 1 to 1,000.
        """

    def set_shadow_policy(
        self, document: str | None, actor: str, reason: str
    ) -> tuple[int, bytes] | None:
        """Puts a policy on trial beside the one in force; None ends the trial.

        Returns:
            None, or a code and a serialized `google.rpc.Status`.
        """

    def report_pressure(
        self, generation: int, persisted_count: int, oldest_wait_ms: int
    ) -> tuple[int, int] | tuple[int, bytes] | None:
        """Takes what the order service has persisted.

        Returns:
            The window's limit and what is outstanding, None without a window, or a code and a
            serialized `google.rpc.Status`: REPORT_REFUSED.
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
            EventsRemovedError: The events asked for were removed.
            OSError: The journal cannot be read.
        """

    def note_reader(self, reader_id: str, after_sequence: int) -> tuple[int, bytes] | None:
        """Keeps the place of a named reader: events after it stay until it comes from a later one.

        The bounds `journal.history_bytes_max` and `journal.reader_seconds_max` hold all the same.
        A place survives a restart from the next snapshot on.

        Args:
            reader_id: 1 to 64 bytes of `[A-Za-z0-9._:-]`; at most 64 readers are known.
            after_sequence: The last event that the reader has, 0 or more.

        Returns:
            None, or `(code, body)` as in `CompletionPort.drain` if the reader is refused.
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

    def end_waiting(self) -> None:
        """Sends away the calls that wait for their lane, and those that would from now on.

        They are told DRAINING. The first step of a drain, before the listeners wait for what they
        have open.
        """

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

@final
class ArrivalReplay:
    """A recording of arrivals, decided again by another policy in simulated time.

    Args:
        document: The TOML text of the policy.
        options_json: `{"service_ms": 0 to 3,600,000, "persisted_per_second": 0.001 to 1,000,000}`;
            what is missing is as recorded.

    Raises:
        ValueError: `args[0]` is a list of what is wrong, each mistake with its line.
    """

    def __new__(cls, document: str, options_json: str) -> ArrivalReplay: ...
    def feed(self, data: bytes) -> None:
        """Takes the bytes of the next file, oldest first, with the GIL released.

        Raises:
            ValueError: The replay has ended.
        """

    def finish(self) -> str:
        """Ends the replay; returns JSON as `core_rs/arrivals/README.md` draws it.

        Raises:
            ValueError: The replay has ended.
        """

def check_policy(document: str) -> str:
    """Reads an admission policy document.

    Returns:
        JSON: `settings` by name (None if it is wrong) and `problems`, rows of `line`, `column`,
        `key` and `message`.
    """

def default_policy() -> str:
    """Returns the policy document that holds until another one is put."""

def audit_directory(path: str) -> str:
    """Rebuilds the ledger of a directory and checks every invariant.

    Nothing is written. If a node has the directory open, what was durable at that moment is shown.

    Returns:
        JSON: `{"holds", "sequence", "epoch", "time_ms", "findings": [{"invariant", "subject",
        "message"}], "pools": [{"sale_id", "sku", "pool", "supplied", "withdrawn", "written_off",
        "available", "buffer", "held", "paying", "overdue", "sold", "quarantine", "leaked_units",
        "forgotten_sold_units"}], "reservations": {state: count}, "oldest": [{"state",
        "reservation_id", "create_time_ms", "due_time_ms"}], "late_held_count", "notes": [text],
        "unfinished_tail": null or {"position", "bytes"}}`.

    Raises:
        NodeOpenError: The directory cannot be read or its journal cannot be recovered.
    """

def read_directory_events(path: str, after_sequence: int, limit: int) -> tuple[bytes, int]:
    """Reads events of a directory; arguments and result as `Node.read_events`.

    Nothing is written. If a node has the directory open, what was durable at that moment is shown.

    Raises:
        ValueError: An argument is out of range or lies beyond the end of the journal.
        EventsRemovedError: The events asked for were removed.
        OSError: The directory or its journal cannot be read.
    """

@final
class DirectoryView:
    """The state of a directory's ledger, rebuilt once and asked often; nothing is written.

    Args:
        path: The data directory.
        as_of: The state as of the last command that ends at or before this sequence; None for the
            end. It is rebuilt from the latest snapshot before it, or from the first event.

    Raises:
        NodeOpenError: As `audit_directory`; EVENTS_REMOVED if neither a snapshot nor the first
            event lies at or before `as_of`, SEQUENCE_NOT_REACHED if it lies behind the end.
    """

    def __new__(cls, path: str, as_of: int | None = None) -> DirectoryView: ...
    def sequence(self) -> int:
        """Returns the last event that the state contains."""

    def audit_json(self) -> str:
        """Checks every invariant; the JSON is that of `audit_directory`."""

    def ask(self, method: str, request: bytes) -> tuple[int, bytes]:
        """Answers a question as a node would have then.

        Args:
            method: Full gRPC path of GetReservation, ListReservations, GetAvailability, Audit or
                ExplainReservation.
            request: The serialized request message.

        Returns:
            `(code, body)` as in `CompletionPort.drain`.
        """

@final
class DirectoryEvents:
    """The events of a directory, looked at once or followed; nothing is written.

    Args:
        path: The data directory; a node may have it open.
        follow: Whether to see events to come. Then an event is shown once a later record or a seal
            proves it durable; a quiet node seals after 200 ms.

    Raises:
        OSError: The directory cannot be read or its journal cannot be recovered.
    """

    def __new__(cls, path: str, follow: bool) -> DirectoryEvents: ...
    def refresh(self) -> bool:
        """Looks again; returns whether there are new events. Never, if it is not followed.

        Raises:
            OSError: The directory cannot be read or is damaged.
        """

    def read(self, after_sequence: int, limit: int) -> tuple[bytes, int]:
        """Reads events; arguments, result and errors as `Node.read_events`."""

    def first_sequence(self) -> int:
        """Returns the first event that is there; 1 until events are removed."""

def verify_directory(path: str) -> str:
    """Checks every record, every event in it and every snapshot; nothing is written.

    Returns:
        JSON: `{"is_whole", "segment_count", "record_count", "first_sequence", "last_sequence"
        (before any damage), "highest_sequence" (behind it too), "epoch", "snapshot_sequences",
        "unfinished_tail", "runs": [{"position", "first_sequence", "last_sequence",
        "record_count"}], "problems": [{"file", "offset", "message"}], "is_ended_early",
        "can_be_saved": null or {"snapshot_sequence", "last_sequence", "lost_event_count",
        "end"}}`.

    Raises:
        OSError: A file cannot be read.
    """

def repair_directory(path: str, target: str) -> str:
    """Writes what can be saved to another directory and checks the copy.

    Args:
        path: The damaged directory; nothing is written to it.
        target: A directory that is empty or not there.

    Returns:
        JSON: `{"source": ..., "copy": ...}`, each as `verify_directory` gives it.

    Raises:
        OSError: Nothing can be saved, the target holds files, or a file cannot be read or written.
    """
