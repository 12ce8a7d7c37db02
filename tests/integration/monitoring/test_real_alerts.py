"""The alerts that wake somebody, fired by a real server's real metrics.

A server is brought into the state; what it serves then becomes the input of `promtool test rules`,
one scrape before and the scrapes after, a minute apart on promtool's clock. Nothing waits.
"""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client.parser import text_string_to_metric_families
from tests.conformance.kit import Ledger, Server, reserve_request, start_server
from tests.integration.monitoring.test_files import ALERTS, needs_promtool
from tools import promtool

from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = needs_promtool

SUCCEEDED = reservation_pb2.PAYMENT_RESULT_SUCCEEDED
START_MS = 1_000_000
MANUAL = ("--clock", "manual", "--manual-start-ms", str(START_MS), "--durability", "memory")


class Station:
    """A server under watch.

    Args:
        folder: Where it lives.
        flags: Of the server.
    """

    def __init__(self, folder: Path, *flags: str) -> None:
        self._folder = folder
        self.server: Server = start_server(folder, *MANUAL, *flags)
        self.ledger = Ledger(self.server.ready["data"], self.server.ready["settlement"])
        self.scrapes = [self.page()]

    def page(self) -> str:
        """Returns what it serves now."""
        url = f"http://{self.server.ready['metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())

    def scrape(self, count: int = 1) -> None:
        """Takes the page as that of so many minutes on end."""
        self.scrapes += [self.page()] * count

    def advance(self, seconds: int) -> None:
        """Moves ledger time."""
        instant = Timestamp()
        instant.FromMilliseconds(START_MS + seconds * 1000)
        self.ledger.rehearsal.SetClock(rehearsal.SetClockRequest(now_time=instant), timeout=10)

    def firing(self) -> set[str]:
        """Returns the alerts that fire after the last scrape."""
        series: dict[str, list[str]] = {}
        for number, page in enumerate(self.scrapes):
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
                    name = f'{sample.name}{{instance="real"{"," if labels else ""}{labels}}}'
                    values = series.setdefault(name, ["_"] * number)
                    values.append(repr(sample.value))
        return self._firing(series, len(self.scrapes) - 1)

    def _firing(self, series: dict[str, list[str]], minutes: int) -> set[str]:
        names = [line.split()[-1] for line in ALERTS.read_text().split("\n") if "- alert:" in line]
        lines = [f"rule_files: [{ALERTS}]", "evaluation_interval: 1m", "tests:", "  - interval: 1m"]
        lines.append("    input_series:")
        lines += [f"      - {{series: '{n}', values: '{' '.join(v)}'}}" for n, v in series.items()]
        lines.append("    alert_rule_test:")
        # None is expected, so promtool fails and names each one that there is.
        lines += [
            f"      - {{alertname: {name}, eval_time: {minutes}m, exp_alerts: []}}"
            for name in names
        ]
        file = self._folder / "real_test.yml"
        file.write_text("\n".join(lines))
        tested = promtool.run("test", "rules", str(file))
        said = tested.stdout + tested.stderr
        firing = {name for name in names if f"alertname: {name}, time" in said}
        assert bool(firing) == (tested.returncode != 0), said
        return firing

    def close(self) -> None:
        """Ends it."""
        self.ledger.close()
        self.server.stop()


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    """Starts stations and ends them."""
    opened: list[Station] = []

    def start(*flags: str) -> Station:
        opened.append(Station(tmp_path, *flags))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def test_a_healthy_sale_fires_nothing(station: Callable[..., Station]) -> None:
    """Reservations, payments and an audit, and every alert is quiet."""
    healthy = station()
    sale = healthy.ledger.put_sale(units=100)
    for _ in range(5):
        healthy.ledger.sold(sale)
    healthy.ledger.held(sale)
    healthy.ledger.must(healthy.ledger.admin.Audit(admin.AuditRequest(), timeout=10))
    healthy.scrape(6)

    assert healthy.firing() == set()


def test_an_overdue_payment_and_late_news_fire(station: Callable[..., Station]) -> None:
    """One payment that nobody settles, and another one's news half an hour late."""
    late = station()
    sale = late.ledger.put_sale(units=10)
    late.ledger.paying(sale)
    reservation, attempt = late.ledger.paying(sale)
    late.scrape(2)
    late.advance(900 + 1_900)
    occurred = Timestamp(seconds=START_MS // 1000)
    late.ledger.must(late.ledger.settle(reservation, attempt, SUCCEEDED, occurred_time=occurred))
    late.scrape(3)

    assert late.firing() == {
        "PaymentOverdue",
        "PaymentOverdueLong",
        "SettlementLate",
        "SettlementVeryLate",
    }


def test_a_forgotten_brake_fires(station: Callable[..., Station]) -> None:
    """An operator's brake that stays on for half an hour."""
    braked = station()
    request = admin.SetExpiryBrakeRequest(**braked.ledger.by(), is_on=True)
    braked.ledger.must(braked.ledger.admin.SetExpiryBrake(request))
    braked.scrape(32)

    assert braked.firing() == {"ExpiryHeldByOperator"}


def test_a_storm_against_a_low_limit_fires(station: Callable[..., Station], tmp_path: Path) -> None:
    """A policy of one reservation a second, and hundreds that want in."""
    policy = tmp_path / "admission.toml"
    policy.write_text("version = 1\n[lanes.reservation]\nrate_per_second = 1\nburst = 1\n")
    stormy = station("--admission-file", str(policy))
    sale = stormy.ledger.put_sale(units=1_000)
    refused = 0
    for _minute in range(18):
        for _ in range(6):
            try:
                stormy.ledger.stock.Reserve(reserve_request(sale), timeout=10)
            except grpc.RpcError:
                refused += 1
        stormy.scrape()

    assert refused > 60
    assert (
        {"ReservationsMostlyRefused"}
        <= stormy.firing()
        <= {
            "ReservationsMostlyRefused",
            # Fires where the machine is quick enough to be called idle.
            "LimitTooLow",
        }
    )


def test_full_memory_fires(station: Callable[..., Station]) -> None:
    """A ledger that has reserved until it was refused for memory."""
    full = station("--set", "memory.ledger_bytes_max=1048576")
    sale = full.ledger.put_sale(units=1_000_000)
    refused = None
    for _ in range(20_000):
        try:
            full.ledger.stock.Reserve(reserve_request(sale), timeout=10)
        except grpc.RpcError as error:
            refused = error
            break
    full.scrape(3)

    assert refused is not None
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert full.firing() == {"LedgerMemoryHigh"}


def test_promtool_accepts_the_page(station: Callable[..., Station]) -> None:
    """`promtool check metrics`: names, units and types are by Prometheus' conventions."""
    served = station()
    served.ledger.held(served.ledger.put_sale(units=1))
    page = "\n".join(
        line for line in served.page().split("\n") if not line.startswith(("python_", "process_"))
    )
    checked = promtool.run("check", "metrics", text=page + "\n")

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
