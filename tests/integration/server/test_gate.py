"""The gates of a live server: over gRPC, over HTTP and from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from tests.conformance.kit import (
    SECONDS_MAX,
    Access,
    Ledger,
    Server,
    new_id,
    patiently,
    refused,
    start_server,
)

from lastunit.admission.v1 import admission_service_pb2 as policy
from lastunit.admission.v1 import gate_pb2 as messages
from lastunit.admission.v1.admission_service_pb2_grpc import AdmissionServiceStub
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit_server.gate_book import FILE_NAME, GateBook
from lastunit_server.tokens import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GATE_FLAGS = ("--set", "gate.address=127.0.0.1:0")
# Two a second for 10 s: twenty may wait to be paid.
NARROW_FLAGS = ("--set", "gate.settled_per_second=2", "--set", "gate.dwell_seconds=0.1")
OPEN = messages.GATE_STATE_OPEN
QUEUEING = messages.GATE_STATE_QUEUEING
CLOSED = messages.GATE_STATE_CLOSED


on_both_fronts = pytest.mark.parametrize("prefix", ["", "native_"], ids=["grpcio", "native"])


def connected(server: Server, access: Access | None = None, prefix: str = "") -> Ledger:
    """Returns a client of a server; the prefix of addresses in its ready line names the front."""
    data, settlement = server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"]
    return Ledger(data, settlement, access or Access())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with gates over HTTP whose queue has no bound, so that tests can share it."""
    server = start_server(tmp_path_factory.mktemp("gate"), *GATE_FLAGS, "--durability", "written")
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["", "native_"], ids=["grpcio", "native"])
def ledger(server: Server, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A client of each front of the server."""
    ledger = connected(server, prefix=request.param)
    yield ledger
    ledger.close()


def order(sale_id: str, hand: Any, **fields: Any) -> messages.SetGateRequest:
    """Builds an order."""
    fields = {"actor": "night-shift", "reason": "the provider is slow"} | fields
    return messages.SetGateRequest(sale_id=sale_id, hand=hand, **fields)


def gate(ledger: Ledger, sale_id: str) -> messages.Gate:
    """Returns a gate as it is."""
    request = messages.GetGateRequest(sale_id=sale_id)
    return ledger.admission.GetGate(request, timeout=SECONDS_MAX).gate


def until(look: Callable[[], Any], wanted: Any) -> None:
    """Waits until a look shows what is wanted."""
    end = time.monotonic() + SECONDS_MAX
    while (found := look()) != wanted:
        assert time.monotonic() < end, found
        time.sleep(0.05)


def document(server: Server, sale_id: str, **headers: str) -> httpx.Response:
    """Asks for the document of a gate."""
    url = f"http://{server.ready['gate']}/v1/gates/{sale_id}"
    return httpx.get(url, headers=headers, timeout=SECONDS_MAX)


def test_a_full_queue_closes_the_gate_and_whoever_is_inside_goes_on(tmp_path: Path) -> None:
    """Reservations up to Qmax close it with a time to come back; those inside pay all the same."""
    server = start_server(tmp_path, *GATE_FLAGS, *NARROW_FLAGS, "--durability", "memory")
    ledger = connected(server)
    sale_id = ledger.put_sale(units=100, reservation_ttl={"seconds": 10})
    assert gate(ledger, sale_id).state == OPEN
    inside = [patiently(lambda: ledger.held(sale_id)) for _ in range(20)]
    until(lambda: gate(ledger, sale_id).state, CLOSED)
    shown = gate(ledger, sale_id)
    assert shown.cause == messages.GATE_CAUSE_QUEUE_DEPTH
    assert (shown.queue_count, shown.queue_count_max, shown.held_count) == (20, 20, 20)
    # Ten fewer at two a second.
    assert shown.come_back_after.seconds == 5

    told = document(server, sale_id)
    assert told.status_code == 429
    assert told.headers["retry-after"] == "5"
    # A payer is not gated, nor is the ledger itself.
    ledger.must(ledger.begin(inside[0], new_id("attempt")))
    patiently(lambda: ledger.held(sale_id))
    ledger.close()
    server.stop()


def test_a_policy_changes_what_gates_are_judged_by_while_they_are_looked_at(
    ledger: Ledger,
) -> None:
    """Its rules hold at the next look, another policy's after it; without rules the settings do."""
    sale_id = ledger.put_sale(units=1, reservation_ttl={"seconds": 10})
    until(lambda: gate(ledger, sale_id).queue_count_max, 0)
    # Three a second for the 6 s that are left of a life.
    narrow = "[gate]\nsettled_per_second = 3\npay_p99_seconds = 2.5\nmargin_seconds = 1.5\n"
    for section, bound in ((narrow, 18), ("[gate]\nsettled_per_second = 1\n", 10), ("", 0)):
        put = policy.PutPolicyRequest(
            document=f"version = 1\n{section}", actor="night-shift", reason="less is paid"
        )
        ledger.admission.PutPolicy(put, timeout=SECONDS_MAX)
        until(lambda: gate(ledger, sale_id).queue_count_max, bound)


def test_the_document_is_small_cacheable_and_confirmed_without_a_body(
    server: Server, ledger: Ledger
) -> None:
    """The document of the longest id fits 1 KB; its tag gives 304 while nothing changes."""
    sale_id = f"{ledger.put_sale()}-{'x' * 60}"[:64]
    request = admin.PutSaleRequest(
        **ledger.by(), sale_id=sale_id, policy=sale_pb2.SalePolicy(), closes_time={"seconds": 2**32}
    )
    ledger.must(ledger.admin.PutSale(request))
    until(lambda: document(server, sale_id).status_code, 200)
    told = document(server, sale_id)

    assert len(told.content) <= 1024
    assert told.json()["state"] == "open"
    assert told.json()["come_back_seconds"] is None
    assert told.headers["cache-control"].startswith("public, max-age=1,")
    assert "retry-after" not in told.headers
    again = document(server, sale_id, **{"If-None-Match": told.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    ledger.admission.SetGate(order(sale_id, messages.GATE_HAND_QUEUEING))
    until(lambda: document(server, sale_id).status_code, 202)
    assert document(server, sale_id).headers["etag"] != told.headers["etag"]


def test_a_sale_says_when_it_opens_when_it_is_sold_out_and_that_it_is_over(
    server: Server, ledger: Ledger
) -> None:
    """Before the opening 429 with the time, sold out is told, and an ended sale is 410 for good."""
    sale_id = ledger.put_sale(units=1)
    ledger.sold(sale_id)
    until(lambda: document(server, sale_id).json().get("is_sold_out"), True)
    closing = admin.SetSaleStateRequest(
        **ledger.by(), sale_id=sale_id, state=sale_pb2.SALE_STATE_CLOSED
    )
    ledger.must(ledger.admin.SetSaleState(closing))
    until(lambda: document(server, sale_id).status_code, 410)
    assert "retry-after" not in document(server, sale_id).headers

    opens = int(time.time()) + 3600
    later = new_id("sale")
    request = admin.PutSaleRequest(
        **ledger.by(), sale_id=later, policy=sale_pb2.SalePolicy(), opens_time={"seconds": opens}
    )
    ledger.must(ledger.admin.PutSale(request))
    until(lambda: document(server, later).status_code, 429)
    told = document(server, later)
    assert told.json()["cause"] == "NOT_OPEN_YET"
    assert 3500 <= int(told.headers["retry-after"]) <= 3600
    assert document(server, "nobodys").status_code == 404


def test_an_order_is_shown_with_who_and_why_and_survives_a_restart(tmp_path: Path) -> None:
    """A hand laid on a gate is there after a restart; what was half written is left out."""
    first = start_server(tmp_path)
    ledger = connected(first)
    sale_id = ledger.put_sale(units=1)
    told = ledger.admission.SetGate(order(sale_id, messages.GATE_HAND_CLOSED)).gate
    assert (told.state, told.cause) == (CLOSED, messages.GATE_CAUSE_OPERATOR)
    ledger.close()
    assert first.stop() == 0
    with (tmp_path / "data" / FILE_NAME).open("ab") as file:
        file.write(b'{"sale_id": "cut')

    again = start_server(tmp_path)
    client = connected(again)
    shown = gate(client, sale_id)
    assert (shown.state, shown.revision) == (CLOSED, 1)
    assert (shown.order.actor, shown.order.reason) == ("night-shift", "the provider is slow")
    auto = order(sale_id, messages.GATE_HAND_AUTOMATIC, expected_revision=1)
    assert client.admission.SetGate(auto).gate.revision == 2
    until(lambda: gate(client, sale_id).state, OPEN)
    client.close()
    again.stop()
    # The cut line is gone, and both orders can be read.
    assert GateBook(tmp_path / "data").last(sale_id).revision == 2


def test_an_order_ends_by_itself_and_a_second_operator_is_not_overrun(ledger: Ledger) -> None:
    """A hand with a time falls away; an order against another revision is refused."""
    sale_id = ledger.put_sale()
    brief = order(sale_id, messages.GATE_HAND_CLOSED, hold={"seconds": 1})
    first = ledger.admission.SetGate(brief).gate
    assert first.order.until_time.ToMilliseconds() > first.as_of_time.ToMilliseconds()
    late = order(sale_id, messages.GATE_HAND_OPEN, expected_revision=0)
    with pytest.raises(grpc.RpcError) as caught:
        ledger.admission.SetGate(late)
    assert refused(caught.value).reason == "REVISION_MISMATCH"

    until(lambda: gate(ledger, sale_id).state, OPEN)
    assert not gate(ledger, sale_id).HasField("order")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"sale_id": "nobodys"}, grpc.StatusCode.NOT_FOUND),
        ({"reason": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"hand": 0}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"hold": {"seconds": 604_801}}, grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"hand": messages.GATE_HAND_AUTOMATIC, "hold": {"seconds": 5}},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
def test_an_order_that_means_nothing_is_refused(
    ledger: Ledger, fields: dict[str, Any], code: grpc.StatusCode
) -> None:
    """Each wrong field is refused by name and changes nothing."""
    sale_id = ledger.put_sale()
    with pytest.raises(grpc.RpcError) as caught:
        ledger.admission.SetGate(
            order(**({"sale_id": sale_id, "hand": messages.GATE_HAND_OPEN} | fields))
        )
    assert caught.value.code() is code
    assert gate(ledger, sale_id).revision == 0


def test_a_watch_tells_the_present_state_and_then_what_changes(ledger: Ledger) -> None:
    """The stream begins with how it is and goes on with each order."""
    sale_id = ledger.put_sale()
    gate(ledger, sale_id)
    stub = AdmissionServiceStub(ledger.data)
    stream = stub.WatchGate(messages.WatchGateRequest(sale_id=sale_id), timeout=SECONDS_MAX)
    assert next(stream).gate.state == OPEN
    ledger.admission.SetGate(order(sale_id, messages.GATE_HAND_QUEUEING))
    assert any(told.gate.state == QUEUEING for told in stream)
    stream.cancel()

    with pytest.raises(grpc.RpcError) as caught:
        next(stub.WatchGate(messages.WatchGateRequest(sale_id="nobodys"), timeout=SECONDS_MAX))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError) as caught:
        next(ledger.admission.WatchGate(messages.WatchGateRequest(sale_id=sale_id)))
    assert refused(caught.value).reason == "WRONG_LISTENER"


@on_both_fronts
def test_a_watch_ends_as_draining_when_the_server_stops(tmp_path: Path, prefix: str) -> None:
    """A watcher of a gate does not hold a stop up and hears why it ends."""
    server = start_server(tmp_path, "--durability", "memory")
    ledger = connected(server, prefix=prefix)
    sale_id = ledger.put_sale()
    gate(ledger, sale_id)
    stub = AdmissionServiceStub(ledger.data)
    stream = stub.WatchGate(messages.WatchGateRequest(sale_id=sale_id), timeout=60)
    assert next(stream).gate.state == OPEN

    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    assert refused(caught.value).reason == "DRAINING"
    assert server.process.wait(30) == 0
    ledger.close()


@on_both_fronts
def test_who_may_look_may_not_lay_a_hand_on_it(tmp_path: Path, prefix: str) -> None:
    """The group admission opens the reads, the group gate the orders, each for its sales only."""
    tokens = {name: new_token(name, identifier=None, expires=None) for name in ("eye", "hand")}
    (tmp_path / "tokens.toml").write_text("\n".join(row for _token, row in tokens.values()))
    settings = tmp_path / "server.toml"
    settings.write_text(
        f'[authentication]\ntokens_file = "{tmp_path / "tokens.toml"}"\n'
        '[[permissions]]\ncallers = ["eye", "hand"]\nmethods = ["admission", "admin"]\n'
        '[[permissions]]\ncallers = ["hand"]\nmethods = ["gate"]\nsales = ["sale-*"]\n'
    )
    server = start_server(tmp_path, "--config", str(settings), "--durability", "memory")
    eye, hand = (
        connected(server, Access(token=tokens[name][0]), prefix) for name in ("eye", "hand")
    )
    sale_id = hand.put_sale()
    closing = order(sale_id, messages.GATE_HAND_CLOSED)
    assert gate(eye, sale_id).state == OPEN
    with pytest.raises(grpc.RpcError) as caught:
        eye.admission.SetGate(closing)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    assert hand.admission.SetGate(closing).gate.order.caller == "hand"
    elsewhere = order("other-1", messages.GATE_HAND_CLOSED)
    with pytest.raises(grpc.RpcError) as caught:
        hand.admission.SetGate(elsewhere)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError) as caught:
        eye.admission.PutPolicy(policy.PutPolicyRequest(document="", actor="eye", reason="none"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    for client in (eye, hand):
        client.close()
    server.stop()


def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs `lastunit admission gate`."""
    target = ("--target", server.ready["settlement"])
    line = [sys.executable, "-m", "lastunit.cli", "admission", "gate", *words, *target]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_line_lays_a_hand_and_takes_it_away(server: Server, ledger: Ledger) -> None:
    """Close, show and auto do what they say; a refusal is told and has a status of its own."""
    sale_id = ledger.put_sale()
    why = ("--reason", "a test", "--actor", "tester")
    closed = command(server, "close", sale_id, *why, "--for", "10m", "--json")
    assert json.loads(closed.stdout)["state"] == "GATE_STATE_CLOSED", closed.stderr
    shown = command(server, "show")
    assert f"{sale_id}: CLOSED (operator)" in shown.stdout
    assert "order 1 by tester, until " in shown.stdout
    assert command(server, "auto", sale_id, *why).returncode == 0
    until(lambda: gate(ledger, sale_id).state, OPEN)

    wrong = command(server, "close", "nobodys", *why)
    assert (wrong.returncode, wrong.stderr[:9]) == (1, "NOT_FOUND")
    assert command(server, "close", sale_id, *why, "--for", "soon").returncode == 2
