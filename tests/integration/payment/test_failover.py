"""Two sandbox providers as processes, one of which hangs: attempts go to the other one."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.payment.core import PaymentCore
from lastunit.payment.http_provider import HttpProvider
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.v1 import payment_service_pb2 as pb
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database

from .processes import Processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATIENCE_SECONDS = 30.0


class Service:
    """A payment service over two providers; nobody settles."""

    def __init__(self, directory: Path) -> None:
        self.processes = Processes(directory)
        self.clock = SystemClock()
        self.databases = [
            Database(directory / "payment.sqlite", PAYMENT_METADATA),
            Database(directory / "inbox.sqlite", INBOX_METADATA),
        ]
        self.providers = [self._provider(name) for name in ("first", "second")]
        self.core = PaymentCore(
            database=self.databases[0],
            inbox=self.databases[1],
            ledger=None,  # type: ignore[arg-type] # nothing is settled here
            providers=self.providers,
            clock=self.clock,
            settings=PaymentSettings(check_seconds=0.2, rest_seconds=0.5),
            random=random.Random(1),
        )

    def _provider(self, name: str) -> HttpProvider:
        callback = f"http://127.0.0.1:9/v1/callbacks/{name}"
        words = ("payment", "sandbox", "--callback-url", callback)
        ready = self.processes.start(name, "lastunit.cli", *words)
        return HttpProvider(f"http://{ready['address']}", name=name)

    async def start(self, order: str) -> str:
        """Starts an attempt; returns who got it."""
        request = pb.StartAttemptRequest(
            attempt_id=f"{order}:1",
            order_id=order,
            reservation_id=order,
            method="card",
            amount_minor=100,
            currency="CNY",
        )
        request.settle_by_time.FromMilliseconds(self.clock.now_ms() + 600_000)
        answer = await self.core.start_attempt(request)
        assert answer.refusal == pb.REFUSAL_UNSPECIFIED, answer
        return answer.attempt.provider

    async def close(self) -> None:
        """Stops everything."""
        for provider in self.providers:
            await provider.aclose()
        for database in self.databases:
            database.close()
        for process in self.processes.running.values():
            process.send_signal(signal.SIGCONT)
        self.processes.stop_all()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """Two providers that work."""
    made = await asyncio.to_thread(Service, tmp_path)
    yield made
    await made.close()


async def test_a_provider_that_hangs_gets_no_new_attempts_until_it_answers(
    service: Service,
) -> None:
    """It is stopped, not killed: connections open, no answers. Then it goes on and is trusted."""
    first = service.processes.running["first"]
    before = await service.start("a")
    first.send_signal(signal.SIGSTOP)
    lost = [await service.core.check_once() for _ in range(3)]
    beside = await service.start("b")
    first.send_signal(signal.SIGCONT)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await service.core.check_once():  # noqa: ASYNC110 - a step tells nobody
            await asyncio.sleep(0.05)
        number = 0
        while (after := await service.start(f"c-{number}")) != "first":
            number += 1
            await asyncio.sleep(0.1)

    assert (before, lost, beside, after) == ("first", [1, 1, 1], "second", "first")


def test_wrong_fallbacks_are_refused_by_name() -> None:
    """Without a URL, under a name that is taken, and under none."""
    from typer.testing import CliRunner

    from lastunit.payment.cli import app

    common = ["serve", "--data-directory", "x", "--ledger-address", "x"]
    common += ["--settlement-address", "x", "--provider-url", "http://x"]
    for wrong in ("other", "sandbox=http://x", "=http://x", "other=ftp://x"):
        result: Any = CliRunner().invoke(app, [*common, "--fallback", wrong])
        assert result.exit_code == 2
        assert "NAME=URL" in result.output
