"""Who calls: names that are proved, names that are only said, and what the journal keeps."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conformance.kit import Bearer, Ledger, new_id, reserve_request, start_server
from typer.testing import CliRunner

from lastunit.admission.v1 import admission_service_pb2 as policy
from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.cli import app

from .kit import Door, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUESTION = stock.GetReservationRequest(reservation_id="nobody")


def callers_of(ledger: Ledger, after: int) -> list[tuple[str, str | None]]:
    """Returns caller and kind of each event after a position."""
    pages = ledger.journal.ReadEvents(
        journal.ReadEventsRequest(after_sequence=after, page_size=1000), timeout=10
    )
    events = [event for page in pages for event in page.events]
    return [(event.caller, event.WhichOneof("body")) for event in events]


def saying(ledger: Ledger, name: str) -> Any:
    """Returns the settlement channel of a ledger that also says a name of its own."""
    return grpc.intercept_channel(ledger.settlement, Bearer("", ("lastunit-caller", name)))


def test_the_journal_keeps_the_proved_name_not_the_said_one(door: Door) -> None:
    """An admin's action carries the token's caller, whatever else is said."""
    token = door.give_token("stock-keeper")
    door.write()
    door.start()
    ledger = door.ledger(token)
    call = saying(ledger, "somebody-else").unary_unary(
        "/lastunit.stock.v1.StockAdminService/PutSale",
        request_serializer=admin.PutSaleRequest.SerializeToString,
        response_deserializer=admin.PutSaleResponse.FromString,
    )
    start = ledger.sequence()

    request = admin.PutSaleRequest(
        request_id=new_id("request"), sale_id=new_id("sale"), actor="alice", reason="spring sale"
    )
    request.policy.SetInParent()
    ledger.must(call(request, timeout=5))

    assert callers_of(ledger, start) == [("stock-keeper", "sale_defined")]
    pages = ledger.journal.ReadEvents(
        journal.ReadEventsRequest(after_sequence=start, page_size=10), timeout=10
    )
    [event] = [event for page in pages for event in page.events]
    text = str(event)
    assert "alice" in text
    assert "spring sale" in text
    assert "somebody-else" not in text
    ledger.close()


def test_every_way_in_journals_the_proved_name(mutual_door: Door) -> None:
    """Unary, batches and both listeners: the certificate's caller, whatever else is said."""
    door = mutual_door
    door.give_token("unused")
    door.write(certificates='"DNS:orders.internal" = "order-service"')
    door.start()
    shown = door.authority.sign("orders", "DNS:orders.internal")
    ledger = door.ledger(shows=shown)
    sale_id = ledger.put_sale(units=10)
    start = ledger.sequence()
    liar = Bearer("", ("lastunit-caller", "payment-service"))
    operations = [
        stock.ExchangeRequest(
            exchange_id=1, operations=[stock.Operation(reserve=reserve_request(sale_id))]
        )
    ]
    exchange: Any = grpc.intercept_channel(ledger.data, liar).stream_stream(
        "/lastunit.stock.v1.StockService/Exchange",
        request_serializer=stock.ExchangeRequest.SerializeToString,
        response_deserializer=stock.ExchangeResponse.FromString,
    )

    reservation_id = ledger.held(sale_id)
    ledger.must(ledger.begin(reservation_id, new_id("attempt")))
    [reply] = exchange(iter(operations), timeout=5)

    assert reply.replies[0].reserve.result.outcome == 1
    names = {caller for caller, _kind in callers_of(ledger, start)}
    assert names == {"order-service"}
    ledger.close()


def test_without_a_proof_nobody_is_served(open_door: Door) -> None:
    """No token, a wrong one and an ended one are UNAUTHENTICATED on every kind of call."""
    good, ended = open_door.tokens["orders"], open_door.tokens["late"]
    identifier = good.partition(".")[0]
    wrong = ("", "x", f"{identifier}.x", f"{good}x", good[:-1], ended, "a" * 5000)
    for token in wrong:
        ledger = open_door.ledger(token)
        events = journal.ReadEventsRequest(page_size=1)
        watch = stock.WatchAvailabilityRequest(sale_id="any")
        calls: dict[str, Callable[..., Any]] = {
            "data": partial(ledger.stock.GetReservation, QUESTION),
            "settlement": partial(ledger.settling.GetReservation, QUESTION),
            "admin": partial(ledger.admin.Audit, admin.AuditRequest()),
            "exchange": partial(ledger.stock.Exchange, iter([])),
            "settlement exchange": partial(ledger.settling.Exchange, iter([])),
            "events": partial(ledger.journal.ReadEvents, events),
            "watch": partial(ledger.stock.WatchAvailability, watch),
            "policy": partial(ledger.admission.GetPolicy, policy.GetPolicyRequest()),
        }
        for name, call in calls.items():
            told = refusal_of(partial(call, timeout=5))
            assert told.code is grpc.StatusCode.UNAUTHENTICATED, (name, token[:80], told)
            assert told.reason == ("TOKEN_INVALID" if token else "TOKEN_MISSING")
            assert identifier not in told.message
        ledger.close()


def test_two_tokens_at_once_are_no_proof(open_door: Door) -> None:
    """A second authorization is refused instead of one of them being chosen."""
    good = open_door.tokens["orders"]
    ledger = open_door.ledger(good)
    twice: Any = grpc.intercept_channel(ledger.data, Bearer(good))

    told = refusal_of(
        lambda: twice.unary_unary("/lastunit.stock.v1.StockService/GetReservation")(b"", timeout=5)
    )

    assert told.reason == "TOKEN_INVALID"
    ledger.close()


def test_certificate_and_token_must_name_the_same_caller(mutual_door: Door) -> None:
    """One of both is enough, both of one caller are fine, of two callers they are refused."""
    door = mutual_door
    token = door.give_token("orders")
    other = door.give_token("payments")
    door.write(certificates='"CN:orders" = "orders"')
    door.start()
    named = door.authority.sign("orders")
    unnamed = door.authority.sign("nobody")

    for good in (("", named), (token, named), (token, unnamed)):
        ledger = door.ledger(good[0], shows=good[1])
        ledger.sequence()
        ledger.close()
    reasons = []
    for bad in ((other, named), ("", unnamed)):
        ledger = door.ledger(bad[0], shows=bad[1])
        reasons.append(refusal_of(partial(ledger.stock.GetReservation, QUESTION)).reason)
        ledger.close()
    assert reasons == ["CALLER_AMBIGUOUS", "CALLER_UNKNOWN"]


def test_tokens_rotate_without_a_restart_and_end_open_streams(door: Door) -> None:
    """A second token of the caller is taken at once; with the first one's row its streams end."""
    old = door.give_token("orders")
    door.write()
    door.start()
    before = door.ledger(old)
    stream = before.journal.ReadEvents(
        journal.ReadEventsRequest(page_size=10, follow=True), timeout=30
    )
    next(stream)

    door.change(lambda: door.give_token("orders"))
    after = door.ledger(door.tokens["orders"])
    before.sequence()
    after.sequence()
    door.rows.pop(0)
    door.change(lambda: door.tokens_file.write_text("\n".join(door.rows)))

    after.put_sale()
    told = refusal_of(lambda: before.stock.GetReservation(QUESTION, timeout=5))
    assert told.reason == "TOKEN_INVALID"
    assert refusal_of(lambda: stream).reason == "TOKEN_INVALID"
    before.close()
    after.close()


def test_a_broken_tokens_file_is_refused_and_the_old_tokens_stay(door: Door) -> None:
    """The log has the file with the line and what is wrong; nobody loses access."""
    token = door.give_token("orders")
    door.write()
    door.start()
    ledger = door.ledger(token)
    broken = "\n".join([*door.rows, *door.rows])

    line = door.change(lambda: door.tokens_file.write_text(broken), event="reload_refused")

    assert str(door.tokens_file) in line["problems"][0]
    assert "two tokens have the id" in line["problems"][0]
    ledger.sequence()
    ledger.close()


def test_health_answers_whoever_can_connect(open_door: Door) -> None:
    """A balancer needs no token; reflection and channelz do."""
    ledger = open_door.ledger()
    for channel in (ledger.data, ledger.settlement):
        reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        opened: Any = channel
        if not open_door.prefix:  # The native front has no channelz.
            shown = opened.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
            told = refusal_of(partial(shown, b"", timeout=5))
            assert told.reason == "TOKEN_MISSING"
        shown = opened.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )
        told = refusal_of(partial(shown, iter([b""]), timeout=5))
        assert told.reason == "TOKEN_MISSING"
    ledger.close()


def test_the_command_line_proves_itself_as_clients_do(
    open_door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Audit and events of a live server take files from LASTUNIT_CLIENT_…; without they fail."""
    assert open_door.server is not None
    token = open_door.directory / "cli.token"
    token.write_text(open_door.tokens["orders"])
    ready = open_door.server.ready

    refused_audit = CliRunner().invoke(app, ["audit", "--target", ready["settlement"]])
    monkeypatch.setenv("LASTUNIT_CLIENT_AUTHORITIES_FILE", str(open_door.authority.certificate))
    monkeypatch.setenv("LASTUNIT_CLIENT_TOKEN_FILE", str(token))
    audit = CliRunner().invoke(app, ["audit", "--target", ready["settlement"]])
    events = CliRunner().invoke(app, ["events", "--target", ready["data"], "--limit", "1"])

    assert refused_audit.exit_code == 6
    assert audit.exit_code == 0, audit.output
    assert events.exit_code == 0, events.output


def test_secrets_stay_out_of_the_log(open_door: Door) -> None:
    """Neither tokens nor keys are logged, whatever goes wrong."""
    token = open_door.tokens["orders"]
    good, bad = open_door.ledger(token), open_door.ledger(f"{token}-and-more")
    good.sequence()
    refusal_of(lambda: bad.stock.GetReservation(QUESTION, timeout=5))
    open_door.wait_for("caller_not_known")

    text = json.dumps(open_door.log())

    assert token not in text
    assert token.partition(".")[2] not in text
    assert "PRIVATE KEY" not in text
    good.close()
    bad.close()


def test_on_loopback_callers_name_themselves(tmp_path: Path) -> None:
    """Without authentication the said name is journaled, as the docs tell."""
    server = start_server(tmp_path, "--durability", "memory")
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    call = saying(ledger, "somebody").unary_unary(
        "/lastunit.stock.v1.StockAdminService/PutSale",
        request_serializer=admin.PutSaleRequest.SerializeToString,
        response_deserializer=admin.PutSaleResponse.FromString,
    )
    start = ledger.sequence()
    request = admin.PutSaleRequest(**ledger.by(), sale_id=new_id("sale"))
    request.policy.SetInParent()
    ledger.must(call(request, timeout=5))

    assert callers_of(ledger, start) == [("somebody", "sale_defined")]
    ledger.close()
    server.stop()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_nothing_listens_beyond_loopback_without_a_proof_of_names(door: Door, address: str) -> None:
    """TLS alone does not open the door to the network."""
    from lastunit_server.errors import SettingsError
    from lastunit_server.loading import load_settings

    door.give_token("orders")
    door.write()
    text = door.settings_file.read_text().partition("[authentication]")[0]
    door.settings_file.write_text(text)
    flags = {"native.data_address": address}

    with pytest.raises(SettingsError, match="callers proving who they are"):
        load_settings(door.settings_file, flags=flags, environment={})
    door.write()
    load_settings(door.settings_file, flags=flags, environment={})
