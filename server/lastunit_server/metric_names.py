"""Every metric of the ledger server: name, kind, labels and what it says.

Owns the words; `metrics` fills them, and docs/reference/metrics.md is made from this table by
tools/metrics_page.py. Units are base units (seconds, bytes), counters end in `_total`.
"""

from typing import Final, Literal, NamedTuple

__all__ = ["LABELS", "METRICS", "Family", "family_of"]


class Family(NamedTuple):
    """One metric.

    Attributes:
        name: As scraped; a histogram without its `_bucket`, `_sum` and `_count`.
        kind: Its type in the exposition format.
        help: What it says.
        labels: Names of its labels, explained in LABELS.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


LABELS: Final[dict[str, str]] = {
    "listener": "`data`, `settlement`, and of calls also `native_data`, `native_settlement`.",
    "grpc_service": "Full name of a service of the contract.",
    "grpc_method": "Name of a method.",
    "grpc_code": "Name of a gRPC status code.",
    "phase": "`Serving`, `Draining`, `Closed`, `JournalFailed` or `Poisoned`.",
    "version": "Version of the server.",
    "durability": "`flushed`, `written` or `memory`.",
    "clock": "`system` or `manual`.",
    "outcome": "Name of an outcome of the contract, for example `OK` or `SOLD_OUT`.",
    "reason": "Why, in the words of the faults, of admission (`in_flight`, `lane_rate`, …) or of"
    " the door (`made_room`, `reader_late`, …).",
    "sale": "A sale; the 20 with the most units moving, the others together as `(other)`; of gates"
    " the 20 under most pressure.",
    "state": "`open`, `queueing` or `closed`.",
    "place": "`available`, `buffer`, `held`, `paying`, `overdue`, `sold` or `quarantine`.",
    "by": "`operator` or `lag`.",
    "live": "What the policy in force did: `admitted` or `refused`.",
    "shadow": "What the policy on trial would have done: `admitted` or `refused`.",
    "lane": "`control`, `settlement`, `reservation` or `read`.",
    "caller": "A caller; the first 20 that were seen, the others together as `(other)`.",
    "reader": "A named reader of events; 20 at most, the others together as `(other)`.",
}

METRICS: Final = (
    # Calls, by the names that gRPC's own Prometheus middlewares use.
    Family(
        "grpc_server_handled_total",
        "counter",
        "Finished calls and streams.",
        ("listener", "grpc_service", "grpc_method", "grpc_code"),
    ),
    Family(
        "grpc_server_handling_seconds",
        "histogram",
        "How long unary calls took in the server, from the headers to the answer.",
        ("listener", "grpc_service", "grpc_method"),
    ),
    Family("lastunit_listener_open_calls", "gauge", "Calls and streams under way.", ("listener",)),
    Family(
        "lastunit_door_refusals_total",
        "counter",
        "Connections and calls refused or ended to protect the others"
        " ([which](../operating/door.md#what-was-refused)).",
        ("listener", "reason"),
    ),
    Family(
        "lastunit_door_connections",
        "gauge",
        "Open connections; absent on the grpcio listeners, whose transport does not tell.",
        ("listener",),
    ),
    Family(
        "lastunit_door_waiting_bytes",
        "gauge",
        "Bytes of answers that callers have not taken and of messages that are not whole; absent on"
        " the grpcio listeners.",
        ("listener",),
    ),
    Family(
        "lastunit_queue_seconds",
        "histogram",
        "How long a call, or a chunk of a batch, waited from its arrival to its decision.",
        ("listener",),
    ),
    Family("lastunit_answers_waiting", "gauge", "Answers that wait for the disk."),
    Family("lastunit_watches_open", "gauge", "Watches of availability under way."),
    # The process.
    Family("lastunit_info", "gauge", "Always 1.", ("version", "durability", "clock")),
    Family("lastunit_serving", "gauge", "1 while calls are served, else 0."),
    Family("lastunit_phase", "gauge", "1 for the phase the node is in, else 0.", ("phase",)),
    Family("lastunit_epoch", "gauge", "Number of this opening of the journal; higher at each."),
    Family("lastunit_recovery_seconds", "gauge", "How long the last start took to recover."),
    Family("lastunit_recovery_events", "gauge", "Events the last start replayed."),
    # What the ledger answers and holds.
    Family("lastunit_outcomes_total", "counter", "Answers of the ledger.", ("outcome",)),
    Family("lastunit_replays_total", "counter", "Of them, repeats of a first answer."),
    Family("lastunit_faults_total", "counter", "Calls that got no answer of it.", ("reason",)),
    Family("lastunit_timers_total", "counter", "Timers that ran: expiry, overdue, sales, …"),
    Family("lastunit_units", "gauge", "Units by where they stand.", ("sale", "place")),
    Family(
        "lastunit_oldest_overdue_age_seconds",
        "gauge",
        "How long the oldest OVERDUE reservation should have been settled; 0 if none is.",
    ),
    Family(
        "lastunit_settlement_lag_seconds",
        "histogram",
        "From what happened at a provider until it was taken, of payment news that names its time.",
    ),
    Family(
        "lastunit_expiry_brake_on",
        "gauge",
        "1 while reservations do not expire: an operator's hand, or late payment news.",
        ("by",),
    ),
    Family("lastunit_ledger_time_seconds", "gauge", "Ledger time, in seconds since the epoch."),
    Family("lastunit_ledger_sales", "gauge", "Sales kept."),
    Family("lastunit_ledger_pools", "gauge", "Pools kept."),
    Family("lastunit_ledger_reservations", "gauge", "Reservations kept, in whatever state."),
    Family(
        "lastunit_ledger_live_reservations", "gauge", "Reservations in HELD, PAYING or OVERDUE."
    ),
    Family("lastunit_ledger_persons", "gauge", "Persons kept."),
    Family("lastunit_ledger_attempts", "gauge", "Attempts to pay kept."),
    Family("lastunit_ledger_requests", "gauge", "Requests remembered for their repeats."),
    Family("lastunit_ledger_memory_bytes", "gauge", "Memory the ledger's state takes."),
    Family(
        "lastunit_ledger_memory_limit_bytes",
        "gauge",
        "Memory at which Reserve is refused (memory.ledger_bytes_max).",
    ),
    Family("lastunit_audits_total", "counter", "Audits run while serving."),
    Family(
        "lastunit_audit_findings",
        "gauge",
        "Invariants that did not hold at the last audit while serving; 0 before the first, because"
        " a ledger that breaks one is not opened.",
    ),
    Family("lastunit_audit_duration_seconds", "gauge", "How long the last audit took."),
    # The journal.
    Family("lastunit_journal_sequence", "gauge", "Last event decided."),
    Family("lastunit_journal_durable_sequence", "gauge", "Last event that a crash leaves."),
    Family("lastunit_journal_flush_seconds", "histogram", "Length of a write and its flush."),
    Family("lastunit_journal_flushed_events_total", "counter", "Events made durable."),
    Family("lastunit_journal_bytes", "gauge", "Bytes of all segments, prepared ones included."),
    Family(
        "lastunit_journal_limit_bytes",
        "gauge",
        "Bytes above which the oldest events go (journal.history_bytes_max).",
    ),
    Family("lastunit_journal_segments", "gauge", "Segments, prepared ones included."),
    Family("lastunit_journal_first_sequence", "gauge", "First event that can still be read."),
    Family(
        "lastunit_journal_disk_free_bytes",
        "gauge",
        "Free bytes of the disk that holds the journal; absent without one (durability memory).",
    ),
    Family(
        "lastunit_journal_prepared_free_bytes",
        "gauge",
        "Bytes that can be appended although the disk is full: allocated ahead, not used yet.",
    ),
    Family("lastunit_journal_space_low", "gauge", "1 while only settlement may use the disk."),
    Family("lastunit_journal_removed_segments_total", "counter", "Old segments removed."),
    Family("lastunit_journal_removed_bytes_total", "counter", "Bytes of old segments removed."),
    Family(
        "lastunit_journal_reader_behind_events",
        "gauge",
        "Durable events a named reader has yet to read.",
        ("reader",),
    ),
    Family(
        "lastunit_journal_reader_seen_timestamp_seconds",
        "gauge",
        "When a named reader last asked, in seconds since the epoch.",
        ("reader",),
    ),
    Family("lastunit_snapshots_total", "counter", "Snapshots written by this process."),
    Family("lastunit_snapshot_bytes", "gauge", "Size of the last of them; 0 before the first."),
    Family(
        "lastunit_snapshot_timestamp_seconds",
        "gauge",
        "Ledger time of the newest snapshot, in seconds since the epoch; 0 without one.",
    ),
    Family("lastunit_snapshot_write_seconds", "gauge", "How long the last one took to write."),
    Family(
        "lastunit_snapshot_freeze_seconds_max",
        "gauge",
        "The longest that calls stood still for one.",
    ),
    Family("lastunit_snapshot_behind_events", "gauge", "Durable events after the newest snapshot."),
    Family(
        "lastunit_housekeeping_failures_total",
        "counter",
        "Segments or snapshots that could not be written or removed; tried again.",
    ),
    # The gates.
    Family(
        "lastunit_gate_state",
        "gauge",
        "1 for the state that a sale's gate is in, else 0; absent without a sale.",
        ("sale", "state"),
    ),
    Family(
        "lastunit_gate_pressure_ratio",
        "gauge",
        "What a gate is judged by, as a share of what can be borne; absent without a sale.",
        ("sale",),
    ),
    Family(
        "lastunit_gate_queued_reservations",
        "gauge",
        "Reservations that wait to be paid, as a gate counts them; absent without a sale.",
        ("sale",),
    ),
    Family(
        "lastunit_gate_queued_reservations_max",
        "gauge",
        "As many as can be paid in time; 0 for no bound; absent without a sale.",
        ("sale",),
    ),
    Family(
        "lastunit_gate_by_hand",
        "gauge",
        "1 while an operator's order holds a gate where it is; absent without a sale.",
        ("sale",),
    ),
    # Admission.
    Family(
        "lastunit_admission_offered_total",
        "counter",
        "Operations that arrived: admitted and refused ones.",
        ("lane",),
    ),
    Family("lastunit_admission_admitted_total", "counter", "Operations let in.", ("lane",)),
    Family(
        "lastunit_admission_refused_total",
        "counter",
        "Operations refused before the ledger saw them, by the limit that refused first.",
        ("lane", "reason"),
    ),
    Family(
        "lastunit_admission_never_total",
        "counter",
        "Of the refused, those that can never be let in: dearer than a whole bucket.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_overdrawn_total",
        "counter",
        "Operations let in although a bucket was empty: no bucket refuses settlement or control.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_in_flight", "gauge", "Operations let in, not answered yet.", ("lane",)
    ),
    Family(
        "lastunit_admission_in_flight_peak",
        "gauge",
        "The most there were since the start.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_waiting",
        "gauge",
        "Calls that wait until their lane has room for them.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_waited_total",
        "counter",
        "Calls whose turn came after a wait.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_wait_late_total",
        "counter",
        "Calls that waited too long or found no place to wait; among the refused ones.",
        ("lane",),
    ),
    Family("lastunit_admission_charged_tokens_total", "counter", "Tokens charged.", ("lane",)),
    Family(
        "lastunit_admission_tokens",
        "gauge",
        "Tokens in the lane's bucket; negative when overdrawn; absent without a bucket.",
        ("lane",),
    ),
    Family(
        "lastunit_admission_hopeless_total",
        "counter",
        "Reservations of a SKU that is gone, answered before any bucket.",
    ),
    Family(
        "lastunit_admission_window_limit",
        "gauge",
        "Reservations that may be granted and not yet persisted; absent without a window.",
    ),
    Family(
        "lastunit_admission_window_outstanding",
        "gauge",
        "Reservations granted and not yet reported as persisted; absent without a window.",
    ),
    Family(
        "lastunit_admission_window_drain_per_second",
        "gauge",
        "Reservations persisted a second, as measured; absent without a window.",
    ),
    Family(
        "lastunit_admission_window_written_off_total",
        "counter",
        "Reservations no longer waited for, because no report ever named them; absent without a"
        " window.",
    ),
    Family(
        "lastunit_admission_window_report_stale",
        "gauge",
        "1 while the order service does not report and only the floor is granted; absent without a"
        " window.",
    ),
    Family(
        "lastunit_admission_shadow_total",
        "counter",
        "Calls by what the policy in force did and the policy on trial would have done; begins anew"
        " with each trial; absent without one.",
        ("live", "shadow"),
    ),
    Family(
        "lastunit_arrivals_recorded_total",
        "counter",
        "Arrivals kept for a replay; absent without arrivals.directory.",
    ),
    Family(
        "lastunit_arrivals_dropped_total",
        "counter",
        "Arrivals not kept: too fast, or no room on that disk; absent without arrivals.directory.",
    ),
    Family(
        "lastunit_arrivals_bytes",
        "gauge",
        "Bytes of the recording; absent without arrivals.directory.",
    ),
    Family("lastunit_admission_callers", "gauge", "Callers that are counted apart."),
    Family(
        "lastunit_admission_caller_admitted_total", "counter", "Operations let in.", ("caller",)
    ),
    Family(
        "lastunit_admission_caller_refused_total", "counter", "Operations refused.", ("caller",)
    ),
)

_BY_NAME: Final = {family.name: family for family in METRICS}


def family_of(name: str) -> Family:
    """Returns a metric's row.

    Raises:
        KeyError: It is not in the table; a metric without a row must not be served.
    """
    return _BY_NAME[name]
