"""`/metrics` for Prometheus of a Python service: its calls and its databases.

Owns the table of metrics, the counting of calls and the HTTP listener. Must not know a service's
rules, nor label anything with a person or an order. docs/reference/metrics.md is made from the
table. Next: `lastunit.service._door`, which counts each call.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from lastunit.service._writer import COMMIT_BOUNDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    from lastunit.service.database import Database

__all__ = ["METRICS", "Family", "MetricsListener", "ServiceMetrics", "address_from_environment"]

ADDRESS_VARIABLE: Final = "LASTUNIT_SERVICE_METRICS_ADDRESS"
# Any free port, told in the ready line: several services share a machine.
ADDRESS_DEFAULT: Final = "127.0.0.1:0"

_LATENCY_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


class Family(NamedTuple):
    """One metric: its name, type, words and labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: Final = (
    Family(
        "grpc_server_handled_total",
        "counter",
        "Finished calls and streams.",
        ("grpc_service", "grpc_method", "grpc_code"),
    ),
    Family(
        "grpc_server_handling_seconds",
        "histogram",
        "How long unary calls took in the service.",
        ("grpc_service", "grpc_method"),
    ),
    Family("lastunit_service_info", "gauge", "Always 1.", ("service",)),
    Family("lastunit_service_open_calls", "gauge", "Calls and streams under way."),
    Family("lastunit_database_queued_units", "gauge", "Units of work that wait.", ("database",)),
    Family(
        "lastunit_database_units_total", "counter", "Units of work that were run.", ("database",)
    ),
    Family(
        "lastunit_database_failed_commits_total",
        "counter",
        "Transactions that failed as a whole; their callers were told.",
        ("database",),
    ),
    Family(
        "lastunit_database_commit_seconds",
        "histogram",
        "Length of a transaction, from its first unit of work until it is durable.",
        ("database",),
    ),
)
_BY_NAME: Final = {family.name: family for family in METRICS}


def address_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Returns where metrics are served: LASTUNIT_SERVICE_METRICS_ADDRESS, empty for nowhere."""
    variables = os.environ if environment is None else environment
    return variables.get(ADDRESS_VARIABLE, ADDRESS_DEFAULT)


class ServiceMetrics:
    """Counts a service's calls and shows its databases.

    Args:
        service: Its name, such as `order`.
    """

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._handled = Counter(
            "grpc_server_handled",
            _help("grpc_server_handled_total"),
            _labels("grpc_server_handled_total"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            _help("grpc_server_handling_seconds"),
            _labels("grpc_server_handling_seconds"),
            registry=self.registry,
            buckets=_LATENCY_BOUNDS,
        )
        self._open = Gauge(
            "lastunit_service_open_calls",
            _help("lastunit_service_open_calls"),
            _labels("lastunit_service_open_calls"),
            registry=self.registry,
        )
        info = Gauge(
            "lastunit_service_info",
            _help("lastunit_service_info"),
            _labels("lastunit_service_info"),
            registry=self.registry,
        )
        info.labels(service).set(1)
        self._databases = _Databases()
        self.registry.register(self._databases)

    def watch(self, name: str, database: Database) -> None:
        """Shows a database; each has a name of its own."""
        self._databases.known[name] = database

    def counted(
        self, method: str, call: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        """Returns a unary handler that is counted and timed; `method` is its gRPC path."""
        names = _split(method)
        seconds = self._seconds.labels(*names)

        async def counted(request: Any, context: Any) -> Any:
            begun = time.perf_counter()
            self._open.inc()
            is_cancelled = False
            try:
                return await call(request, context)
            except asyncio.CancelledError:
                is_cancelled = True
                raise
            finally:
                self._open.dec()
                seconds.observe(time.perf_counter() - begun)
                self._note(names, context, is_cancelled=is_cancelled)

        return counted

    def counted_stream(
        self, method: str, call: Callable[[Any, Any], AsyncIterator[Any]]
    ) -> Callable[[Any, Any], AsyncIterator[Any]]:
        """Returns a stream's handler that is counted; a stream has no length that means much."""
        names = _split(method)

        async def counted(request: Any, context: Any) -> AsyncIterator[Any]:
            self._open.inc()
            is_cancelled = False
            try:
                async for response in call(request, context):
                    yield response
            except (asyncio.CancelledError, GeneratorExit):
                is_cancelled = True
                raise
            finally:
                self._open.dec()
                self._note(names, context, is_cancelled=is_cancelled)

        return counted

    def _note(self, names: tuple[str, str], context: Any, *, is_cancelled: bool) -> None:
        code = context.code()
        number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0)
        name = "CANCELLED" if is_cancelled else _CODE_NAMES.get(number, str(number))
        self._handled.labels(*names, name).inc()


class _Databases(Collector):
    """Reads the writers' counts at each scrape."""

    def __init__(self) -> None:
        self.known: dict[str, Database] = {}

    def collect(self) -> Iterator[Metric]:
        """Yields the databases' families."""
        queued = GaugeMetricFamily(
            "lastunit_database_queued_units",
            _help("lastunit_database_queued_units"),
            labels=_labels("lastunit_database_queued_units"),
        )
        units = CounterMetricFamily(
            "lastunit_database_units",
            _help("lastunit_database_units_total"),
            labels=_labels("lastunit_database_units_total"),
        )
        failed = CounterMetricFamily(
            "lastunit_database_failed_commits",
            _help("lastunit_database_failed_commits_total"),
            labels=_labels("lastunit_database_failed_commits_total"),
        )
        name = "lastunit_database_commit_seconds"
        lengths = HistogramMetricFamily(name, _help(name), labels=_labels(name))
        for name, database in self.known.items():
            writer = database.writer
            queued.add_metric([name], writer.queued_count)
            units.add_metric([name], writer.unit_count)
            failed.add_metric([name], writer.failure_count)
            bounds = [*map(repr, COMMIT_BOUNDS), "+Inf"]
            total, buckets = 0, []
            for bound, count in zip(bounds, tuple(writer.commit_spans), strict=True):
                total += count
                buckets.append((bound, float(total)))
            lengths.add_metric([name], buckets, writer.commit_seconds)
        yield from (queued, units, failed, lengths)


class MetricsListener:
    """The HTTP listener of a service's metrics.

    Args:
        address: `host:port`; port 0 takes a free one.
        metrics: What to show.

    Attributes:
        address: As bound.

    Raises:
        OSError: The address cannot be bound.
    """

    def __init__(self, address: str, metrics: ServiceMetrics) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise OSError(
                f"{ADDRESS_VARIABLE} is {address!r}; write host:port, or leave it empty for none"
            )
        try:
            self._server, self._thread = start_http_server(
                int(port), addr=host.strip("[]"), registry=metrics.registry
            )
        except OSError as error:
            raise OSError(
                f"{ADDRESS_VARIABLE} = {address!r} can't be bound: {error.strerror}; set another"
                " address, or an empty one for none"
            ) from error
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _help(name: str) -> str:
    return _BY_NAME[name].help


def _labels(name: str) -> tuple[str, ...]:
    return _BY_NAME[name].labels


def _split(method: str) -> tuple[str, str]:
    service, _, name = method.removeprefix("/").partition("/")
    return service, name
