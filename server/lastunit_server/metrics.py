"""`/metrics` for Prometheus on a port of its own.

Owns names and form of the metrics; counts nothing itself: the fronts and the node do, and a scrape
reads them.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import grpc
from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from lastunit_server.counts import CallCounts
from lastunit_server.errors import StartError
from lastunit_server.settings import host_and_port

if TYPE_CHECKING:
    from lastunit_server._native import Node

__all__ = ["MetricsEndpoint", "ServerCollector"]

_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class ServerCollector(Collector):
    """Reads the node's and the fronts' numbers at each scrape.

    Args:
        node: The open node.
        counts: Call counts by listener name.
    """

    def __init__(self, node: "Node", counts: Mapping[str, CallCounts]) -> None:
        self._node = node
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yields every metric family."""
        yield self._calls()
        is_serving = self._node.health()[0]
        yield GaugeMetricFamily(
            "lastunit_serving", "1 while the node serves calls, else 0.", value=float(is_serving)
        )
        yield from _node_metrics(json.loads(self._node.metrics_json()))

    def _calls(self) -> Metric:
        family = CounterMetricFamily(
            "grpc_server_handled",
            "Finished calls by listener, method and status.",
            labels=("listener", "grpc_method", "grpc_status"),
        )
        for listener, counts in self._counts.items():
            for (method, code), number in sorted(counts.snapshot().items()):
                name = _CODE_NAMES.get(code, str(code))
                family.add_metric((listener, method.removeprefix("/"), name), number)
        return family


def _node_metrics(numbers: Mapping[str, object], prefix: str = "lastunit") -> Iterator[Metric]:
    """Flattens the node's JSON: each number becomes one gauge named by its path."""
    for key, value in sorted(numbers.items()):
        name = f"{prefix}_{key}"
        if isinstance(value, dict):
            yield from _node_metrics(value, name)
        elif isinstance(value, bool | int | float):
            yield GaugeMetricFamily(_metric_name(name), f"Node: {key}.", value=float(value))


def _metric_name(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)


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
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise StartError(
                f"metrics.address = {address!r} can't be bound: {error.strerror}; stop what listens"
                " there or set another metrics.address"
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_port}"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
