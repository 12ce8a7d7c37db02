"""/metrics of a real server: what is told is true, well formed, named as written, and bounded."""

from __future__ import annotations

import shutil
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tests.conformance.kit import Bearer, Ledger, Server, patiently, reserve_request, start_server
from tools import metrics_page

from lastunit.admission.v1 import admission_service_pb2 as admission
from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit_server.metric_names import LABELS, METRICS
from lastunit_server.metrics import LABEL_VALUES_MAX, OTHER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUCCEEDED = reservation_pb2.PAYMENT_RESULT_SUCCEEDED
# What the Prometheus client itself adds.
CLIENT_PREFIXES = ("process_", "python_")


def scrape(server: Server, *, accept: str = "") -> tuple[str, str]:
    """Returns the page and its content type."""
    request = urllib.request.Request(f"http://{server.ready['metrics']}/metrics")
    request.add_header("Accept", accept)
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode(), response.headers["Content-Type"]


def samples(server: Server) -> dict[str, float]:
    """Returns every sample by its name and sorted labels, as `name{label=value,...}`."""
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(scrape(server)[0]):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            values[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return values


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server whose clock the test moves, with no word about metrics."""
    flags = ("--clock", "manual", "--manual-start-ms", "1000000", "--durability", "memory")
    server = start_server(tmp_path_factory.mktemp("metrics"), *flags)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ledger(server: Server) -> Iterator[Ledger]:
    """Reaches it."""
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    yield ledger
    ledger.close()


def set_clock(ledger: Ledger, milliseconds: int) -> None:
    """Moves ledger time to an instant."""
    instant = Timestamp()
    instant.FromMilliseconds(milliseconds)
    ledger.rehearsal.SetClock(rehearsal.SetClockRequest(now_time=instant), timeout=10)


def test_a_sale_is_told_as_it_went(server: Server, ledger: Ledger) -> None:
    """Units by place, late news, the overdue, the brake, the audit: each as the calls made it."""
    sale = ledger.put_sale(units=100, unpaid_reservations_per_person_max=0)
    ledger.held(sale, 3)
    reservation, attempt = ledger.paying(sale, 2)
    ledger.sold(sale, 5)
    late, late_attempt = ledger.paying(sale)
    set_clock(ledger, 1_000_000 + 905_000)
    occurred = Timestamp(seconds=1_000)
    ledger.must(ledger.settle(late, late_attempt, SUCCEEDED, occurred_time=occurred))
    ledger.must(ledger.admin.Audit(admin.AuditRequest(), timeout=10))

    told = samples(server)

    units = {
        place: told[f"lastunit_units{{place={place},sale={sale}}}"]
        for place in ("available", "held", "paying", "overdue", "sold")
    }
    # The one that was only held has lapsed by now.
    assert units == {"available": 92, "held": 0, "paying": 0, "overdue": 2, "sold": 6}
    assert told["lastunit_oldest_overdue_age_seconds"] == pytest.approx(5.0)
    assert told["lastunit_settlement_lag_seconds_count"] == 1
    assert told["lastunit_settlement_lag_seconds_sum"] == pytest.approx(905.0)
    assert told["lastunit_expiry_brake_on{by=lag}"] == 1
    assert told["lastunit_expiry_brake_on{by=operator}"] == 0
    assert told["lastunit_audits_total"] == 1
    assert told["lastunit_audit_findings"] == 0
    assert told["lastunit_ledger_time_seconds"] == pytest.approx(1_905.0)
    ledger.must(ledger.settle(reservation, attempt, SUCCEEDED))
    assert samples(server)["lastunit_oldest_overdue_age_seconds"] == 0


def test_a_gate_tells_its_one_state(server: Server, ledger: Ledger) -> None:
    """Exactly one of the three states is 1 for a sale that is on, and no hand lies on it."""
    sale = ledger.put_sale(units=5)
    end = time.monotonic() + 30
    while f"lastunit_gate_by_hand{{sale={sale}}}" not in (told := samples(server)):
        assert time.monotonic() < end, "the gates are looked at ten times a second"

    states = [
        told[f"lastunit_gate_state{{sale={sale},state={state}}}"]
        for state in ("open", "queueing", "closed")
    ]
    assert sum(states) == 1
    assert told[f"lastunit_gate_by_hand{{sale={sale}}}"] == 0
    assert told[f"lastunit_gate_pressure_ratio{{sale={sale}}}"] >= 0


def test_calls_are_counted_and_timed_by_listener_and_method(server: Server, ledger: Ledger) -> None:
    """Ten calls more are ten more in the count, in the histogram's count and its last bucket."""
    sale = ledger.put_sale(units=100, unpaid_reservations_per_person_max=0)
    about = "grpc_method=Reserve,grpc_service=lastunit.stock.v1.StockService,listener=data"
    names = (
        f"grpc_server_handled_total{{grpc_code=OK,{about}}}",
        f"grpc_server_handling_seconds_count{{{about}}}",
        f"grpc_server_handling_seconds_bucket{{{about.replace('listener', 'le=+Inf,listener')}}}",
        "lastunit_outcomes_total{outcome=OK}",
        "lastunit_admission_admitted_total{lane=reservation}",
        "lastunit_admission_offered_total{lane=reservation}",
        "lastunit_queue_seconds_count{listener=data}",
    )
    before = samples(server)
    for _ in range(10):
        ledger.held(sale)
    after = samples(server)

    grown = {name: after[name] - before.get(name, 0) for name in names}
    assert grown == dict.fromkeys(names, 10)


def test_the_page_serves_what_the_table_says_and_nothing_else(
    server: Server, ledger: Ledger
) -> None:
    """Names, kinds, labels and help of every family, against the table of the docs."""
    sale = ledger.put_sale(units=10)
    ledger.held(sale)
    patiently(lambda: list(ledger.journal.ReadEvents(events_of("follower"), timeout=10)))
    served = {
        family.name: family
        for family in openmetrics.text_string_to_metric_families(
            scrape(server, accept="application/openmetrics-text; version=1.0.0")[0]
        )
        if not family.name.startswith(CLIENT_PREFIXES)
    }
    declared = {family.name.removesuffix("_total"): family for family in METRICS}

    absent = set(declared) - set(served)

    assert set(served) <= set(declared)
    assert all("absent without" in declared[name].help for name in absent), absent
    for name, family in served.items():
        assert family.type == declared[name].kind, name
        assert family.documentation == declared[name].help, name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(declared[name].labels), name
        assert declared[name].name.endswith("_total") == (declared[name].kind == "counter"), name
    assert {label for family in METRICS for label in family.labels} == set(LABELS)


def events_of(reader: str) -> Any:
    """Asks for a page of events as a named reader."""
    from lastunit.stock.v1 import journal_service_pb2

    return journal_service_pb2.ReadEventsRequest(page_size=100, reader_id=reader)


def test_each_client_gets_the_form_it_asks_for(server: Server) -> None:
    """OpenMetrics when it is accepted, the classic text otherwise, and both have the same names."""
    _classic, classic_type = scrape(server)
    text, open_type = scrape(server, accept="application/openmetrics-text; version=1.0.0")

    assert classic_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_strangers_cannot_add_label_values_without_end(server: Server, ledger: Ledger) -> None:
    """Fifty callers and thirty sales are twenty and the rest; the sums keep everybody."""
    for number in range(50):
        channel = grpc.intercept_channel(
            ledger.data, Bearer("", ("lastunit-caller", f"stranger-{number}"))
        )
        call = channel.unary_unary("/lastunit.stock.v1.StockService/Reserve")
        call(reserve_request("no-sale").SerializeToString(), timeout=10)
    for _ in range(30):
        ledger.put_sale(units=1)

    told = samples(server)
    callers = [name for name in told if name.startswith("lastunit_admission_caller_admitted_")]
    sales = {name.partition("sale=")[2] for name in told if name.startswith("lastunit_units{")}
    admitted = sum(told[name] for name in callers)
    lanes = sum(
        value
        for name, value in told.items()
        if name.startswith("lastunit_admission_admitted_total{")
    )
    assert len(callers) <= LABEL_VALUES_MAX + 1
    assert f"lastunit_admission_caller_admitted_total{{caller={OTHER}}}" in callers
    assert told[f"lastunit_admission_caller_admitted_total{{caller={OTHER}}}"] >= 30
    assert len(sales) == LABEL_VALUES_MAX + 1
    assert OTHER + "}" in sales
    assert admitted == lanes
    assert len(told) < 2_000


def test_no_metric_tells_of_a_person_or_a_reservation(server: Server, ledger: Ledger) -> None:
    """The ids of people and their claims are nowhere on the page."""
    sale = ledger.put_sale(units=10)
    reservation = ledger.held(sale, person_id="person-canary")
    page, _type = scrape(server)

    assert reservation not in page
    assert "person-canary" not in page


def test_a_scrape_does_not_wait_for_the_disk(server: Server) -> None:
    """A hundred scrapes answer while nothing else happens; none hangs."""
    end = time.monotonic() + 60
    for _ in range(100):
        scrape(server)

    assert time.monotonic() < end


def test_the_reference_page_is_what_the_code_says() -> None:
    """docs/reference/metrics.md is made, not written."""
    assert metrics_page.PAGE.read_text() == metrics_page.page()


def test_the_disk_that_is_told_is_the_journals(tmp_path: Path) -> None:
    """Free bytes of the file system of the data directory, not of what is allocated ahead."""
    server = start_server(tmp_path)
    told = samples(server)["lastunit_journal_disk_free_bytes"]
    free = shutil.disk_usage(tmp_path).free

    assert server.stop() == 0
    # Others write to this disk meanwhile.
    assert told == pytest.approx(free, rel=0.2)


def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    """An empty address serves no metrics, and the ready line says so."""
    server = start_server(tmp_path, "--metrics-address", "", "--durability", "memory")

    assert server.ready["metrics"] is None
    assert server.stop() == 0


def test_what_the_native_listeners_serve_is_counted_as_theirs(server: Server) -> None:
    """Calls with their code and their length, by listener; nothing of them under the other one."""
    before = samples(server)
    native = Ledger(server.ready["native_data"], server.ready["native_settlement"])
    sale = native.put_sale(units=1)
    native.held(sale)
    with pytest.raises(grpc.RpcError):
        native.settling.Reserve(reserve_request(sale), timeout=10)
    native.close()

    grown = {name: value - before.get(name, 0) for name, value in samples(server).items()}
    stock = "grpc_service=lastunit.stock.v1.StockService"
    handled = "grpc_server_handled_total{{grpc_code={},grpc_method=Reserve,{},listener={}}}"
    timed = "grpc_server_handling_seconds_count{{grpc_method=Reserve,{},listener={}}}"
    assert grown[handled.format("OK", stock, "native_data")] == 1
    assert grown[handled.format("FAILED_PRECONDITION", stock, "native_settlement")] == 1
    assert grown[timed.format(stock, "native_data")] == 1
    assert grown.get(handled.format("OK", stock, "data"), 0) == 0


def test_a_trial_a_window_and_what_is_gone_are_told(tmp_path: Path) -> None:
    """Two of three calls that a trial would refuse are told as such; a silent service is too."""
    window = "version = 1\n[window]\ncredits_max = 10\ncredits_min = 10\n"
    floor = "floor_rate_per_second = 1000\nfloor_burst = 1000\n"
    policy = tmp_path / "policy.toml"
    policy.write_text(window + floor)
    server = start_server(tmp_path, "--policy", str(policy))
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale = ledger.put_sale(units=3)
    assert not any("shadow" in name for name in samples(server))
    strict = "version = 1\n[lanes.reservation]\nrate_per_second = 0.001\nburst = 1\n"
    trial = admission.SetShadowPolicyRequest(document=strict, actor="sre", reason="a trial")
    ledger.admission.SetShadowPolicy(trial)
    for _ in range(3):
        ledger.sold(sale)
    for _ in range(3):
        # The first of them learns that nothing is left; the next ones are hopeless.
        ledger.stock.Reserve(reserve_request(sale))
    told = samples(server)

    assert told["lastunit_admission_shadow_total{live=admitted,shadow=refused}"] >= 2
    assert told["lastunit_admission_shadow_total{live=refused,shadow=refused}"] == 0
    assert told["lastunit_admission_window_report_stale"] == 1
    assert told["lastunit_admission_hopeless_total"] == 2
