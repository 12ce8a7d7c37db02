"""Crowds at the account service, as processes: one identifier, and a flood of newcomers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest
from tests.conformance.kit import ROOT, Ledger, start_server

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.stock.v1 import outcome_pb2, reservation_pb2

from .test_process import AccountProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

CALLERS = 100
LOGINS = 20


def address(name: str) -> pb.Identifier:
    """Returns an address in the contract's form."""
    return pb.Identifier(email=f"{name}@example.org")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[AccountProcess]]:
    """Gives two processes that are not started yet; both are gone at the end."""
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        made.append(AccountProcess(folder / "data"))
    yield made
    for process in made:
        process.end(signal.SIGKILL)


def stub(channel: grpc.aio.Channel) -> Any:
    """Returns a client of a process."""
    return account_service_pb2_grpc.AccountServiceStub(channel)


async def test_a_hundred_callers_of_two_processes_get_one_account(
    processes: list[AccountProcess], postgres_url: sa.URL, tmp_path: Path
) -> None:
    """One identifier, 100 callers at once, two processes on PostgreSQL: one account, one person."""
    url = postgres_url.set(drivername="postgresql").render_as_string(hide_password=False)
    key = str(tmp_path / "account.key")
    for process in processes:
        process.start("--database", url, "--key-file", key)
    async with contextlib.AsyncExitStack() as stack:
        stubs = [
            stub(await stack.enter_async_context(grpc.aio.insecure_channel(process.address)))
            for process in processes
        ]
        answers = await asyncio.gather(
            *(
                stubs[number % 2].Register(
                    pb.RegisterRequest(request_id=f"q-{number}", identifier=address("anna.smith")),
                    timeout=60,
                )
                for number in range(CALLERS)
            )
        )
    with psycopg.connect(url) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM lastunit_account.{table}").fetchone()
            for table in ("accounts", "persons", "identifiers", "requests")
        ]

    assert [answer.refusal for answer in answers] == [0] * CALLERS
    assert len({answer.account_id for answer in answers}) == 1
    assert [answer.created for answer in answers].count(True) == 1
    assert counts == [(1,), (1,), (1,), (CALLERS,)]


class Flood:
    """Newcomers who never wait, in a process of their own."""

    def __init__(self, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.account.flood", target],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def wait_until_refused(self) -> None:
        """Returns once the first of them was refused."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert "refused" in line

    def end(self) -> dict[str, int]:
        """Ends it and returns how many calls ended how."""
        self._process.send_signal(signal.SIGTERM)
        try:
            said, _ = self._process.communicate(timeout=60)
        finally:
            self._process.kill()
            self._process.wait(30)
        counts: dict[str, int] = json.loads(said.splitlines()[-1])
        return counts


def last_code(messages: Path) -> str:
    """Returns the code that the sandbox was given last."""
    text: str = json.loads(messages.read_text().splitlines()[-1])["text"]
    return text.split(maxsplit=1)[0]


async def sign_up(client: Any, name: str, messages: Path) -> tuple[str, str]:
    """Registers somebody and returns the account and the code, which is good for a login yet."""
    sent = await client.SendCode(
        pb.SendCodeRequest(identifier=address(name), purpose=pb.CODE_PURPOSE_SIGN_IN), timeout=60
    )
    assert sent.refusal == 0
    code = await asyncio.to_thread(last_code, messages)
    answer = await client.Register(
        pb.RegisterRequest(request_id=f"q-{name}", identifier=address(name), proof=code),
        timeout=60,
    )
    return answer.account_id, code


def pay(ledger: Ledger, attempts: list[tuple[str, str]]) -> list[Any]:
    """Reports each attempt as paid."""
    return [
        ledger.settle(reservation_id, attempt_id, reservation_pb2.PAYMENT_RESULT_SUCCEEDED)
        for reservation_id, attempt_id in attempts
    ]


async def test_a_flood_of_newcomers_starves_neither_login_nor_settlement(
    processes: list[AccountProcess], tmp_path: Path
) -> None:
    """While newcomers are refused, all who have an account log in, and all payments settle."""
    service = processes[0]
    service.start("--proofs", "code", "--sender", "sandbox", "--sign-ups-per-second", "20")
    messages = service.directory / "messages.jsonl"
    ready = (await asyncio.to_thread(start_server, tmp_path)).ready
    ledger = Ledger(ready["data"], ready["settlement"])
    sale_id = await asyncio.to_thread(ledger.put_sale, units=LOGINS)
    attempts = [await asyncio.to_thread(ledger.paying, sale_id) for _ in range(LOGINS)]
    async with grpc.aio.insecure_channel(service.address) as channel:
        client = stub(channel)
        buyers = [await sign_up(client, f"buyer-{n:02}", messages) for n in range(LOGINS)]
        flood = Flood(service.address)
        try:
            await asyncio.to_thread(flood.wait_until_refused)
            settled = asyncio.create_task(asyncio.to_thread(pay, ledger, attempts))
            logins = [
                await client.Login(
                    pb.LoginRequest(identifier=address(f"buyer-{number:02}"), proof=code),
                    timeout=60,
                )
                for number, (_, code) in enumerate(buyers)
            ]
            resolved = await client.ResolvePerson(
                pb.ResolvePersonRequest(account_ids=[account for account, _ in buyers]), timeout=60
            )
            paid = await settled
        finally:
            counts = await asyncio.to_thread(flood.end)
    await asyncio.to_thread(ledger.close)

    assert [each.refusal for each in logins] == [0] * LOGINS
    assert [each.account_id for each in logins] == [account for account, _ in buyers]
    assert {each.state for each in resolved.persons} == {pb.ACCOUNT_STATE_ACTIVE}
    assert [each.result.outcome for each in paid] == [outcome_pb2.OUTCOME_OK] * LOGINS
    assert counts["RESOURCE_EXHAUSTED"] > 0
    assert set(counts) <= {"OK", "RESOURCE_EXHAUSTED"}
