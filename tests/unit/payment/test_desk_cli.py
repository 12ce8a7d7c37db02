"""The commands with which a human looks after money, against a real service over gRPC."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from lastunit.payment.cli import app
from lastunit.payment.grpc_service import SERVICE_NAME, PaymentServicer
from lastunit.payment.metrics import METRICS, PaymentMetrics
from lastunit.payment.provider import CreateOrder
from lastunit.payment.sandbox.knobs import SandboxKnobs
from lastunit.payment.v1 import payment_service_pb2_grpc
from lastunit.service.server import ServiceServer

from .world import AMOUNT_MINOR, START_MS, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.one_database


class Desk:
    """A payment service that is served from a thread, and the command line before it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.world = self.run(self._open())

    def run(self, work: Any) -> Any:
        """Runs something in the service's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _open(self) -> World:
        world = World(SandboxKnobs(amount_fault_probability=1))
        await world.start()
        world.sandbox.pay("order-1:1")
        await world.run_until(START_MS + 5_000)
        world.sandbox.knobs = SandboxKnobs()
        self.server = ServiceServer("payment", service_names=(SERVICE_NAME,))
        payment_service_pb2_grpc.add_PaymentServiceServicer_to_server(
            PaymentServicer(world.core), self.server.grpc
        )
        self.address = await self.server.start()
        return world

    def close(self) -> None:
        """Ends it."""
        self.run(self.server.stop(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.world.close()

    def command(self, *words: str, status: int = 0) -> str:
        """Runs a command and returns what it printed."""
        done = CliRunner().invoke(app, [*words, "--payment-address", self.address])
        assert done.exit_code == status, done.output
        return done.output

    def listed(self, *words: str) -> list[dict[str, Any]]:
        """Lists incidents."""
        return [
            json.loads(line)
            for line in self.command("incidents", *words, "--json").split("\n")
            if line
        ]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A service with one quarantined attempt."""
    opened = Desk()
    yield opened
    opened.close()


def test_an_incident_is_seen_decided_and_gone(desk: Desk) -> None:
    """List, decide, and the list of what is open is empty; the record says who and why."""
    (incident,) = desk.listed()
    text = desk.command("incidents")
    desk.command(
        *("resolve", incident["incident_id"], "refund"),
        *("--reason", "asked the bank", "--actor", "ann"),
    )
    desk.run(desk.world.run_until(START_MS + 20_000))
    (resolved,) = desk.listed("--all")

    assert "AMOUNT_DIFFERS" in text
    assert "may be: refund, refunded-elsewhere" in text
    assert desk.command("incidents").strip() == "nothing is open"
    assert (resolved["actor"], resolved["reason"]) == ("ann", "asked the bank")


def test_what_may_not_be_decided_is_refused_with_what_may(desk: Desk) -> None:
    """A note while a unit waits; a word that is none; an incident that is none."""
    (incident,) = desk.listed()
    note = ("resolve", incident["incident_id"], "note", "--reason", "x")

    assert "refund, refunded-elsewhere" in desk.command(*note, status=1)
    desk.command("resolve", incident["incident_id"], "forget", "--reason", "x", status=2)
    told = desk.command("resolve", "i-none", "note", "--reason", "x", status=1)
    assert "UNKNOWN_INCIDENT" in told


def test_a_refund_is_asked_for_once_by_its_request(desk: Desk) -> None:
    """The same request id twice gives one refund; more than is left is refused."""
    words = ("refund", "order-1:1", "--reason", "wrong", "--amount", "1000", "--request-id", "q-1")
    first, second = (json.loads(desk.command(*words, "--json")) for _ in range(2))
    rest = ("refund", "order-1:1", "--reason", "wrong", "--amount", str(AMOUNT_MINOR))

    assert first["refund_id"] == second["refund_id"]
    assert "OVER_PAID" in desk.command(*rest, status=1)


def test_a_service_that_is_not_there_is_said(desk: Desk) -> None:
    """Status 6 and a sentence."""
    words = ["incidents", "--payment-address", "127.0.0.1:1"]
    done = CliRunner().invoke(app, words)

    assert done.exit_code == 6
    assert "127.0.0.1:1" in done.output


def test_a_stored_callback_is_acted_upon_again(desk: Desk) -> None:
    """It says what the attempt is now; one that never came is refused."""
    words = ("reprocess", "e-1", "--provider", "sandbox")

    assert "attempt order-1:1 is QUARANTINED" in desk.command(*words)
    assert "UNKNOWN_CALLBACK" in desk.command("reprocess", "e-9", *words[2:], status=1)


def test_metrics_say_what_is_open_and_what_waits(desk: Desk) -> None:
    """An open incident, a waiting callback, and the state of the provider's breaker."""

    async def wait_for_work() -> None:
        world = desk.world
        world.sandbox.create(CreateOrder("stranger:1", "card", 5, "CNY"))
        world.sandbox.pay("stranger:1")
        world.clock.advance_to(START_MS + 30_000)
        await world.deliver()
        world.clock.advance_to(START_MS + 40_000)

    desk.run(wait_for_work())
    world = desk.world
    registry = CollectorRegistry()
    breakers = world.core.providers.breakers
    registry.register(
        PaymentMetrics(
            database=world.database, inbox=world.inbox, breakers=breakers, clock=world.clock
        )
    )
    told = generate_latest(registry).decode()

    assert 'lastunit_payment_open_incidents{kind="AMOUNT_DIFFERS"} 1.0' in told
    assert 'lastunit_payment_open_incidents{kind="UNKNOWN_ATTEMPT"} 0.0' in told
    assert "lastunit_payment_inbox_waiting 1.0" in told
    assert "lastunit_payment_inbox_lag_seconds 10.0" in told
    assert 'lastunit_payment_provider_state{provider="sandbox",state="CLOSED"} 1.0' in told
    assert all(f"# TYPE {family.name} {family.kind}" in told for family in METRICS)


def test_a_bill_of_the_provider_is_compared_and_reported(desk: Desk) -> None:
    """The quarantined attempt was paid in full: one difference, exit status 3, and JSON for it."""
    words = ("import-bill", "--provider", "sandbox", "--day", "2023-11-14")
    text = desk.command(*words, status=3)
    report = json.loads(desk.command(*words, "--json", status=3))

    assert "bill of sandbox, 2023-11-14: 1 lines" in text
    assert "bill 1 for 84,000, books 1 for 83,999, difference 1" in text
    assert [each["kind"] for each in report["differences"]] == ["INCIDENT_KIND_PAID_DIFFERS"]
    assert report["sums"][0]["billed_payment_minor"] == str(AMOUNT_MINOR)


def test_a_bill_as_a_file_agrees_or_is_refused_whole(desk: Desk, tmp_path: Path) -> None:
    """A file that says what the books say agrees; a broken one names its line, status 2."""
    head = "kind,merchant_no,provider_no,refund_key,amount_minor,currency,occurred_time"
    line = "payment,order-1:1,sandbox-1,,83999,CNY,2023-11-14T22:13:20Z"
    words = ("--provider", "sandbox", "--day", "2023-11-14T00:00:00+00:00")
    file = tmp_path / "bill.csv"
    file.write_text(f"{head}\n{line}\n")

    assert "agree to the unit of money" in desk.command("import-bill", str(file), *words)

    file.write_text(f"{head}\n{line}\n{line.replace('83999', 'many')}\n")
    told = desk.command("import-bill", str(file), *words, status=2)

    assert "line 3: amount_minor is 'many'" in told


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2026-11-22T00:00:00", "1960-01-01"])
def test_a_day_is_a_date_or_an_instant_with_its_offset(desk: Desk, day: str) -> None:
    """Anything else is refused before anything is sent."""
    desk.command("import-bill", "--provider", "sandbox", "--day", day, status=2)
