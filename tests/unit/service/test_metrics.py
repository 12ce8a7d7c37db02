"""What a service tells Prometheus: its calls by how they ended, and its database's commits."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from lastunit.service.database import Database
from lastunit.service.metrics import (
    METRICS,
    MetricsListener,
    ServiceMetrics,
    address_from_environment,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

METHOD = "/shop.v1.ShopService/Buy"
ABOUT = "grpc_method=Buy,grpc_service=shop.v1.ShopService"


class Context:
    """A call that ends with a code."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self._code = code

    def code(self) -> int:
        """Returns it as grpc.aio does."""
        return int(self._code.value[0])


def samples(metrics: ServiceMetrics) -> dict[str, float]:
    """Scrapes over HTTP; returns every sample by name and sorted labels."""
    listener = MetricsListener("127.0.0.1:0", metrics)
    with urllib.request.urlopen(f"http://{listener.address}/metrics", timeout=10) as response:
        page = response.read().decode()
    listener.close()
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return values


async def test_calls_are_counted_by_how_they_ended() -> None:
    """Two that are answered, one that is refused, one stream; none is open afterwards."""
    metrics = ServiceMetrics("shop")

    async def answer(request: Any, context: Any) -> str:
        if request == "bad":
            raise ValueError(request)
        return "done"

    async def stream(request: Any, context: Any) -> AsyncIterator[str]:
        yield "one"

    buy = metrics.counted(METHOD, answer)
    assert await buy("good", Context()) == "done"
    await buy("good", Context())
    with pytest.raises(ValueError, match="bad"):
        await buy("bad", Context(grpc.StatusCode.INVALID_ARGUMENT))
    watch = metrics.counted_stream("/shop.v1.ShopService/Watch", stream)
    assert [each async for each in watch("", Context())] == ["one"]
    told = samples(metrics)

    assert told[f"grpc_server_handled_total{{grpc_code=OK,{ABOUT}}}"] == 2
    assert told[f"grpc_server_handled_total{{grpc_code=INVALID_ARGUMENT,{ABOUT}}}"] == 1
    assert told[f"grpc_server_handling_seconds_count{{{ABOUT}}}"] == 3
    assert told["lastunit_service_open_calls"] == 0
    assert told["lastunit_service_info{service=shop}"] == 1


async def test_commits_of_a_database_are_told(tmp_path: Path) -> None:
    """Every unit and every commit, also the one that failed."""
    metrics = ServiceMetrics("shop")
    with Database(tmp_path / "shop.sqlite", sa.MetaData()) as database:
        metrics.watch("shop", database)
        for _ in range(3):
            await database.writer.run(lambda connection: connection.execute(sa.text("SELECT 1")))
        told = samples(metrics)

    assert told["lastunit_database_units_total{database=shop}"] == 3
    assert told["lastunit_database_commit_seconds_count{database=shop}"] == 3
    assert told["lastunit_database_commit_seconds_bucket{database=shop,le=+Inf}"] == 3
    assert told["lastunit_database_failed_commits_total{database=shop}"] == 0
    assert told["lastunit_database_queued_units{database=shop}"] == 0


def test_the_page_has_what_the_table_says(tmp_path: Path) -> None:
    """Every family of the table, and of others only what the Prometheus client adds."""
    metrics = ServiceMetrics("shop")
    with Database(tmp_path / "shop.sqlite", sa.MetaData()) as database:
        metrics.watch("shop", database)
        served = {
            family.name: (family.type, family.documentation)
            for family in metrics.registry.collect()
            if not family.name.startswith("process_")
        }

    assert served == {
        family.name.removesuffix("_total"): (family.kind, family.help) for family in METRICS
    }


def test_the_address_comes_from_the_environment() -> None:
    """A free port of loopback, unless something else is said; nowhere if it is empty."""
    assert address_from_environment({}) == "127.0.0.1:0"
    assert address_from_environment({"LASTUNIT_SERVICE_METRICS_ADDRESS": ""}) == ""
    with pytest.raises(OSError, match="write host:port"):
        MetricsListener("nonsense", ServiceMetrics("shop"))
