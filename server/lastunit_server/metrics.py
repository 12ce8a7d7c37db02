"""`/metrics` for Prometheus on a port of its own.

Owns how the node's and the fronts' numbers become metrics; counts nothing itself: a scrape reads
what is counted anyway. Names and words are in `metric_names`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

import grpc
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from lastunit_server.counts import LATENCY_BOUNDS, Counts
from lastunit_server.errors import StartError
from lastunit_server.metric_names import family_of
from lastunit_server.settings import Settings, host_and_port

if TYPE_CHECKING:
    from lastunit_server._native import Node

__all__ = ["LABEL_VALUES_MAX", "OTHER", "MetricsEndpoint", "ServerCollector"]

# Label values of callers, sales and readers: a stranger must not be able to fill Prometheus.
LABEL_VALUES_MAX: Final = 20
# Not a legal id, so no caller or sale can be called so.
OTHER: Final = "(other)"

_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_PHASES: Final = ("Serving", "Draining", "Closed", "JournalFailed", "Poisoned")
_GATES: Final = ("open", "queueing", "closed")
_NEVER: Final = "refused_never_count"
# What the policy in force did and the one on trial would have done, and the count of both.
_TRIAL: Final = {
    ("admitted", "admitted"): "both_admitted_count",
    ("admitted", "refused"): "only_live_admitted_count",
    ("refused", "admitted"): "only_shadow_admitted_count",
    ("refused", "refused"): "both_refused_count",
}
# Whoever comes first, our own services keep their names.
_ALWAYS_NAMED: Final = ("order-service", "payment-service")

Row = tuple[Sequence[str], float]
Numbers = Mapping[str, Any]


class ServerCollector(Collector):
    """Reads the node's and the fronts' numbers at each scrape.

    Args:
        node: The open node.
        counts: Call counts by listener name.
        settings: What the server was told, for `lastunit_info`; None leaves it out.
    """

    def __init__(
        self, node: "Node", counts: Mapping[str, Counts], settings: Settings | None = None
    ) -> None:
        self._node = node
        self._counts = counts
        self._settings = settings
        self._named_callers = dict.fromkeys(_ALWAYS_NAMED)

    def collect(self) -> Iterator[Metric]:
        """Yields every metric family."""
        yield from self._calls()
        numbers = json.loads(self._node.metrics_json())
        yield from self._process(numbers)
        yield from _answers(numbers)
        if numbers["ledger"] is not None:
            yield from _ledger(numbers["ledger"])
        yield from _journal(numbers)
        yield from _snapshots(numbers)
        yield from _gates(json.loads(self._node.gates_json(0) or '{"gates": []}')["gates"])
        yield from self._admission(numbers["admission"])
        yield from _waiting(numbers["waiting"])
        yield from _arrivals(numbers["arrivals"])

    def _calls(self) -> Iterator[Metric]:
        handled: list[Row] = []
        seconds = _histogram("grpc_server_handling_seconds")
        for listener, counts in self._counts.items():
            for (method, code), number in sorted(counts.snapshot().items()):
                labels = (listener, *_split(method), _CODE_NAMES.get(code, str(code)))
                handled.append((labels, number))
            for method, latency in sorted(counts.latencies().items()):
                seconds.add_metric(
                    (listener, *_split(method)),
                    buckets=_buckets(LATENCY_BOUNDS, latency.counts),
                    sum_value=latency.seconds,
                )
        yield _family("grpc_server_handled_total", handled)
        yield seconds
        opened = [((name,), counts.open_count) for name, counts in self._counts.items()]
        yield _family("lastunit_listener_open_calls", opened)
        yield from _door(self._counts)

    def _process(self, numbers: Numbers) -> Iterator[Metric]:
        if self._settings is not None:
            version = metadata.version("lastunit-server")
            labels = (version, self._settings.journal.durability, self._settings.clock)
            yield _family("lastunit_info", [(labels, 1)])
            yield from _disk(self._settings)
        yield _one("lastunit_serving", self._node.health()[0])
        phases = [((phase,), phase == numbers["phase"]) for phase in _PHASES]
        yield _family("lastunit_phase", phases)
        yield _one("lastunit_epoch", numbers["epoch"])
        yield _one("lastunit_recovery_seconds", numbers["recovery"]["micros"] / 1e6)
        yield _one("lastunit_recovery_events", numbers["recovery"]["event_count"])

    def _admission(self, numbers: Numbers) -> Iterator[Metric]:
        lanes: Mapping[str, Numbers] = numbers["lanes"]
        refused: list[Row] = []
        for lane, stats in lanes.items():
            refused += [((lane, reason), count) for reason, count in _refusals(stats)]
        yield _family("lastunit_admission_refused_total", refused)
        offered = [((lane,), _offered(stats)) for lane, stats in lanes.items()]
        yield _family("lastunit_admission_offered_total", offered)
        for name, key in (
            ("lastunit_admission_admitted_total", "admitted_count"),
            ("lastunit_admission_never_total", _NEVER),
            ("lastunit_admission_overdrawn_total", "overdrawn_count"),
            ("lastunit_admission_in_flight", "in_flight"),
            ("lastunit_admission_in_flight_peak", "in_flight_peak"),
            ("lastunit_admission_charged_tokens_total", "charged_tokens"),
            ("lastunit_admission_tokens", "tokens"),
        ):
            told = ((lane, stats.get(key)) for lane, stats in lanes.items())
            yield _family(name, [((lane,), value) for lane, value in told if value is not None])
        yield _one("lastunit_admission_hopeless_total", numbers["hopeless_count"])
        if (window := numbers["window"]) is not None:
            yield _one("lastunit_admission_window_limit", window["limit"])
            yield _one("lastunit_admission_window_outstanding", window["outstanding"])
            yield _one("lastunit_admission_window_drain_per_second", window["drain_per_second"])
            yield _one("lastunit_admission_window_written_off_total", window["written_off_count"])
            yield _one("lastunit_admission_window_report_stale", window["is_report_stale"])
        if (shadow := numbers["shadow"]) is not None:
            pairs = [(labels, shadow[key]) for labels, key in _TRIAL.items()]
            yield _family("lastunit_admission_shadow_total", pairs)
        yield _one("lastunit_admission_callers", numbers["caller_count"])
        yield from self._callers(numbers["callers"], lanes.values())

    def _callers(
        self, callers: Mapping[str, Numbers], lanes: Iterable[Numbers]
    ) -> Iterator[Metric]:
        # Those that were seen first keep their names for good: a name that came and went as callers
        # rise and fall would make every rate over it wrong.
        busiest = sorted(callers, key=lambda name: -_total(callers[name]))
        for name in busiest:
            if len(self._named_callers) < LABEL_VALUES_MAX:
                self._named_callers.setdefault(name)
        named = [name for name in self._named_callers if name in callers]
        admitted: list[Row] = [((name,), callers[name]["admitted_count"]) for name in named]
        refused: list[Row] = [((name,), callers[name]["refused_count"]) for name in named]
        lanes = list(lanes)
        # The lanes have everybody, whether the node still tells their names or not.
        all_admitted = sum(stats["admitted_count"] for stats in lanes)
        all_refused = sum(count for stats in lanes for _reason, count in _refusals(stats))
        yield _family(
            "lastunit_admission_caller_admitted_total", _with_rest(admitted, all_admitted)
        )
        yield _family("lastunit_admission_caller_refused_total", _with_rest(refused, all_refused))


def _waiting(lanes: Mapping[str, Numbers]) -> Iterator[Metric]:
    for name, key in (
        ("lastunit_admission_waiting", "waiting_count"),
        ("lastunit_admission_waited_total", "served_count"),
        ("lastunit_admission_wait_late_total", "late_count"),
    ):
        yield _family(name, [((lane,), counts[key]) for lane, counts in lanes.items()])


def _disk(settings: Settings) -> Iterator[Metric]:
    if settings.journal.durability == "memory":
        return
    try:
        free = shutil.disk_usage(settings.data_directory).free
    except OSError:
        # A disk that does not even tell its size: the other metrics are needed all the more.
        return
    yield _one("lastunit_journal_disk_free_bytes", free)


def _answers(numbers: Numbers) -> Iterator[Metric]:
    yield _family("lastunit_outcomes_total", _labelled(numbers["outcomes"]))
    yield _one("lastunit_replays_total", numbers["replayed_count"])
    yield _family("lastunit_faults_total", _labelled(numbers["faults"]))
    yield _one("lastunit_timers_total", numbers["timer_count"])
    yield _one("lastunit_answers_waiting", numbers["waiting_answer_count"])
    yield _one("lastunit_watches_open", numbers["watch_count"])
    yield _one("lastunit_audits_total", numbers["audit"]["count"])
    yield _one("lastunit_audit_findings", numbers["audit"]["finding_count_last"])
    yield _one("lastunit_audit_duration_seconds", numbers["audit"]["micros_last"] / 1e6)
    queues = _histogram("lastunit_queue_seconds")
    for listener, spans in numbers["queue"].items():
        _add_spans(queues, (listener,), spans, "micros", 1e6)
    yield queues
    lag = _histogram("lastunit_settlement_lag_seconds")
    _add_spans(lag, (), numbers["settlement_lag"], "millis", 1e3)
    yield lag


def _ledger(ledger: Numbers) -> Iterator[Metric]:
    sales: Mapping[str, Mapping[str, int]] = ledger["units"]
    yield _family("lastunit_units", _units(sales))
    oldest = ledger["oldest_overdue_time_ms"]
    age = 0 if oldest is None else max(0, ledger["time_ms"] - oldest) / 1e3
    yield _one("lastunit_oldest_overdue_age_seconds", age)
    brake = ledger["brake"]
    brakes = [(("operator",), brake["is_on_by_operator"]), (("lag",), brake["is_on_by_lag"])]
    yield _family("lastunit_expiry_brake_on", brakes)
    yield _one("lastunit_ledger_time_seconds", ledger["time_ms"] / 1e3)
    for name in ("sale", "pool", "reservation", "live_reservation", "person", "attempt", "request"):
        yield _one(f"lastunit_ledger_{name}s", ledger[f"{name}_count"])
    yield _one("lastunit_ledger_memory_bytes", ledger["memory_bytes"])
    yield _one("lastunit_ledger_memory_limit_bytes", ledger["memory_bytes_max"])


def _units(sales: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """Names the sales in which the most units move, then the largest."""

    def weight(sale: str) -> tuple[int, int, str]:
        places = sales[sale]
        moving = places["held"] + places["paying"] + places["overdue"]
        return (-moving, -sum(places.values()), sale)

    ranked = sorted(sales, key=weight)
    rows: list[Row] = []
    for sale in ranked[:LABEL_VALUES_MAX]:
        rows += [((sale, place), units) for place, units in sales[sale].items()]
    rest = [sales[sale] for sale in ranked[LABEL_VALUES_MAX:]]
    if rest:
        rows += [((OTHER, place), sum(row[place] for row in rest)) for place in rest[0]]
    return rows


def _gates(gates: Sequence[Numbers]) -> Iterator[Metric]:
    ranked = sorted(gates, key=lambda gate: (-gate["pressure"], gate["sale_id"]))
    shown = ranked[:LABEL_VALUES_MAX]
    if not shown:
        return
    states = [
        ((gate["sale_id"], state), gate["state"] == state) for gate in shown for state in _GATES
    ]
    yield _family("lastunit_gate_state", states)
    for name, key in (
        ("lastunit_gate_pressure_ratio", "pressure"),
        ("lastunit_gate_queued_reservations", "queue_count"),
        ("lastunit_gate_queued_reservations_max", "queue_count_max"),
    ):
        yield _family(name, [((gate["sale_id"],), gate[key]) for gate in shown])
    hands = [((gate["sale_id"],), gate["hand"] is not None) for gate in shown]
    yield _family("lastunit_gate_by_hand", hands)


def _journal(numbers: Numbers) -> Iterator[Metric]:
    journal = numbers["journal"]
    yield _one("lastunit_journal_sequence", numbers["sequence"])
    yield _one("lastunit_journal_durable_sequence", numbers["durable_sequence"])
    flushes = _histogram("lastunit_journal_flush_seconds")
    _add_spans(flushes, (), numbers["flush"], "micros", 1e6)
    yield flushes
    yield _one("lastunit_journal_flushed_events_total", numbers["flush"]["event_count"])
    yield _one("lastunit_journal_bytes", journal["bytes"])
    yield _one("lastunit_journal_limit_bytes", journal["bytes_max"])
    yield _one("lastunit_journal_segments", journal["segment_count"])
    if journal["first_sequence"] is not None:
        yield _one("lastunit_journal_first_sequence", journal["first_sequence"])
    yield _one("lastunit_journal_prepared_free_bytes", numbers["journal_free_bytes"])
    yield _one("lastunit_journal_space_low", numbers["is_space_low"])
    yield _one("lastunit_journal_removed_segments_total", numbers["removed"]["segment_count"])
    yield _one("lastunit_journal_removed_bytes_total", numbers["removed"]["bytes"])
    yield from _readers(journal["readers"])


def _readers(readers: Mapping[str, Numbers]) -> Iterator[Metric]:
    """Shows every named reader, or of many those that are behind the most."""
    ranked = sorted(readers, key=lambda name: -readers[name]["behind_count"])
    shown, rest = ranked[:LABEL_VALUES_MAX], ranked[LABEL_VALUES_MAX:]
    behind: list[Row] = [((name,), readers[name]["behind_count"]) for name in shown]
    if rest:
        behind.append(((OTHER,), max(readers[name]["behind_count"] for name in rest)))
    yield _family("lastunit_journal_reader_behind_events", behind)
    seen = [((name,), readers[name]["seen_ms"] / 1e3) for name in shown]
    yield _family("lastunit_journal_reader_seen_timestamp_seconds", seen)


def _snapshots(numbers: Numbers) -> Iterator[Metric]:
    snapshot = numbers["snapshot"]
    yield _one("lastunit_snapshots_total", snapshot["count"])
    yield _one("lastunit_snapshot_bytes", snapshot["bytes_last"])
    yield _one("lastunit_snapshot_timestamp_seconds", snapshot["time_ms"] / 1e3)
    yield _one("lastunit_snapshot_write_seconds", snapshot["write_micros_last"] / 1e6)
    yield _one("lastunit_snapshot_freeze_seconds_max", snapshot["freeze_micros_max"] / 1e6)
    behind = numbers["durable_sequence"] - numbers["snapshot_sequence"]
    yield _one("lastunit_snapshot_behind_events", behind)
    yield _one("lastunit_housekeeping_failures_total", numbers["keeper_failure"]["count"])


def _arrivals(arrivals: Numbers | None) -> Iterator[Metric]:
    if arrivals is not None:
        yield _one("lastunit_arrivals_recorded_total", arrivals["recorded_count"])
        yield _one("lastunit_arrivals_dropped_total", arrivals["dropped_count"])
        yield _one("lastunit_arrivals_bytes", arrivals["bytes"])


def _refusals(stats: Numbers) -> Iterator[tuple[str, int]]:
    """Yields each limit that refuses, and how often it did first."""
    for key, count in stats.items():
        if key.startswith("refused_") and key.endswith("_count") and key != _NEVER:
            yield key.removeprefix("refused_").removesuffix("_count"), count


def _offered(stats: Numbers) -> int:
    return int(stats["admitted_count"]) + sum(count for _reason, count in _refusals(stats))


def _total(caller: Numbers) -> int:
    return int(caller["admitted_count"]) + int(caller["refused_count"])


def _with_rest(rows: list[Row], total: int) -> list[Row]:
    # Never less than nothing: the node reads its counters one after the other.
    return [*rows, ((OTHER,), max(0, total - sum(value for _labels, value in rows)))]


def _labelled(values: Mapping[str, float]) -> list[Row]:
    return [((name,), value) for name, value in sorted(values.items())]


def _split(method: str) -> tuple[str, str]:
    service, _, name = method.removeprefix("/").partition("/")
    return service, name


def _family(name: str, rows: Iterable[Row]) -> Metric:
    declared = family_of(name)
    make = CounterMetricFamily if declared.kind == "counter" else GaugeMetricFamily
    family = make(name.removesuffix("_total"), declared.help, labels=declared.labels)
    for labels, value in rows:
        family.add_metric(labels, float(value))
    return family


def _one(name: str, value: float) -> Metric:
    return _family(name, [((), value)])


def _histogram(name: str) -> HistogramMetricFamily:
    declared = family_of(name)
    return HistogramMetricFamily(name, declared.help, labels=declared.labels)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Adds spans up: Prometheus counts in each bucket what is in those below it too."""
    names = [*(repr(bound) for bound in bounds), "+Inf"]
    sums: list[tuple[str, float]] = []
    total = 0
    for name, count in zip(names, counts, strict=True):
        total += count
        sums.append((name, float(total)))
    return sums


def _door(counts: Mapping[str, Counts]) -> Iterator[Metric]:
    doors = {listener: each.door() for listener, each in counts.items()}
    refused = [
        ((listener, reason), count)
        for listener, door in doors.items()
        for reason, count in sorted(door.refusals.items())
    ]
    yield _family("lastunit_door_refusals_total", refused)
    for name, field in (
        ("lastunit_door_connections", "connection_count"),
        ("lastunit_door_waiting_bytes", "waiting_bytes"),
    ):
        known = ((listener, getattr(door, field)) for listener, door in doors.items())
        yield _family(
            name, [((listener,), value) for listener, value in known if value is not None]
        )


def _add_spans(
    family: HistogramMetricFamily, labels: Sequence[str], spans: Numbers, unit: str, scale: float
) -> None:
    pairs = spans[f"count_by_{unit}_below"]
    # The last span of the node is open, whatever its bound says.
    bounds = [bound / scale for bound, _count in pairs[:-1]]
    buckets = _buckets(bounds, [count for _bound, count in pairs])
    family.add_metric(labels, buckets, spans[f"{unit}_total"] / scale)


class MetricsEndpoint:
    """The HTTP listener.

    Args:
        address: `host:port`.
        collector: What to show.
    """

    def __init__(self, address: str, collector: ServerCollector) -> None:
        host, port = host_and_port(address)
        registry = CollectorRegistry()
        registry.register(collector)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise StartError(
                f"metrics.address = {address!r} can't be bound: {error.strerror}; stop what listens"
                ' there, set another metrics.address, or "" for none'
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
