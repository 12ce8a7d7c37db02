"""One trace from the order service through the ledger and the payment service, over the wires."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.kit import Bearer, Ledger, reserve_request, start_server
from tests.integration.payment.test_processes import (
    _buy,
    _start_all,
    _wait_until_paid,
    accounts,
    ledger_in_real_time,
    processes,
)
from tests.integration.tracing.collector import Collector, Span

from lastunit import tracing
from lastunit.order.v1 import order_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.payment.processes import Processes
    from tests.integration.payment.system import LedgerProcess

__all__ = ["accounts", "ledger_in_real_time", "processes"]

SERVER, CLIENT = 2, 3
STOCK = "lastunit.stock.v1.StockService"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Starts a collector, and sets it as every process' exporter."""
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{collector.address}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    yield collector
    collector.close()
    tracing.stop()


def parent_of(span: Span, spans: list[Span]) -> Span | None:
    """Returns the span that a span belongs under."""
    return next((each for each in spans if each.span_id == span.parent_id), None)


def path_of(span: Span, spans: list[Span]) -> list[str]:
    """Returns service and method from the first caller down to a span."""
    path: list[str] = []
    at: Span | None = span
    while at is not None:
        path.insert(0, f"{at.service} {at.attributes['rpc.method']}")
        at = parent_of(at, spans)
    return path


async def test_a_payment_is_one_trace_over_order_ledger_and_payment(
    collector: Collector,
    processes: Processes,
    ledger_in_real_time: LedgerProcess,
    accounts: str,
) -> None:
    """Pay, and under it BeginPayment and StartAttempt; and no span tells who bought."""
    order, sandbox = _start_all(processes, ledger_in_real_time, accounts)
    async with grpc.aio.insecure_channel(order) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        placed, _paid = await _buy(stub, sandbox)
        await _wait_until_paid(stub, placed.order_id)
    processes.stop_all()
    ledger_in_real_time.process.terminate()
    ledger_in_real_time.process.wait(30)
    spans = collector.spans()

    paths = [path_of(span, spans) for span in spans if span.kind == SERVER]
    pay = "lastunit-order Pay"
    reserve = "lastunit-order PlaceOrder"
    assert [pay, "lastunit-order BeginPayment", "lastunit-ledger BeginPayment"] in paths
    assert [pay, "lastunit-order StartAttempt", "lastunit-payment StartAttempt"] in paths
    assert [reserve, "lastunit-order Reserve", "lastunit-ledger Reserve"] in paths
    roots = [span for span in spans if span.attributes["rpc.method"] == "Pay"]
    same = {span.service for span in spans if span.trace_id == roots[0].trace_id}
    assert same >= {"lastunit-order", "lastunit-ledger", "lastunit-payment"}
    told = " ".join(str(value) for span in spans for value in span.attributes.values())
    assert placed.order_id not in told
    assert "account-1" not in told


@pytest.mark.parametrize("prefix", ["", "native_"])
def test_a_callers_own_trace_goes_on_in_the_ledger(
    collector: Collector, tmp_path: Path, prefix: str
) -> None:
    """A traceparent in metadata is the parent, on every listener; a refusal has its status."""
    flags = ("--durability", "memory", "--set", f"tracing.endpoint=http://{collector.address}")
    server = start_server(tmp_path, *flags)
    ledger = Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])
    caller = Bearer("", ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"))
    calls = {
        "data": (ledger.data, f"/{STOCK}/Reserve", reserve_request("none").SerializeToString()),
        "settlement": (ledger.settlement, f"/{STOCK}/Confirm", b""),
    }
    for channel, path, request in calls.values():
        call = grpc.intercept_channel(channel, caller).unary_unary(path)
        try:
            call(request, timeout=10)
        except grpc.RpcError:
            # The empty Confirm; its status is in the span.
            continue
    ledger.close()
    assert server.stop() == 0
    spans = {span.attributes["lastunit.listener"]: span for span in collector.spans()}

    assert set(spans) == {f"{prefix}data", f"{prefix}settlement"}
    for span in spans.values():
        assert (span.trace_id.hex(), span.parent_id.hex()) == (TRACE_ID, PARENT_ID)
        assert (span.kind, span.events) == (SERVER, 0)
        assert 0 < span.end_ns - span.begin_ns < 10**10
    assert spans[f"{prefix}data"].attributes["rpc.grpc.status_code"] == 0
    assert spans[f"{prefix}settlement"].attributes["rpc.grpc.status_code"] == 3


def test_a_native_call_that_its_caller_does_not_trace_is_not_told(
    collector: Collector, tmp_path: Path
) -> None:
    """A caller that decided against its trace is not followed; one without a trace begins one."""
    flags = ("--durability", "memory", "--set", f"tracing.endpoint=http://{collector.address}")
    server = start_server(tmp_path, *flags)
    request = reserve_request("none").SerializeToString()
    with grpc.insecure_channel(server.ready["native_data"]) as channel:
        call = channel.unary_unary(f"/{STOCK}/Reserve")
        call(request, timeout=10, metadata=[("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00")])
        call(request, timeout=10)
    assert server.stop() == 0
    [span] = collector.spans()

    assert span.parent_id == b""
    assert span.trace_id.hex() != TRACE_ID
    assert span.attributes["rpc.method"] == "Reserve"


def test_nothing_is_imported_or_wrapped_when_no_exporter_is_set() -> None:
    """Client, services and server without OpenTelemetry: not a module of it, not a wrapper."""
    program = (
        "import sys\n"
        "from lastunit import tracing\n"
        "import lastunit.client.aio, lastunit.service.server, lastunit_server.serve\n"
        "assert tracing.start('x', environment={}) is False\n"
        "handle = object()\n"
        "assert tracing.traced_async('/s/m', handle) is handle\n"
        "assert tracing.traced('/s/m', handle) is handle\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_a_protocol_that_is_not_spoken_is_refused_at_the_start() -> None:
    """A sentence instead of spans that never arrive."""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    with pytest.raises(tracing.TracingError, match="only grpc is spoken"):
        tracing.start("x", environment=environment)

    assert not tracing.is_on()
