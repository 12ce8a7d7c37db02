"""The account service as an operator runs it: start, kill, start again, stop."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "from lastunit.account.cli import app; app()"


class AccountProcess:
    """Serves one data directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory.parent / "account.log"
        self.address = ""
        self.running: subprocess.Popen[str] | None = None

    def start(self, *words: str) -> str:
        """Starts it and returns the first line it prints; empty if it ended without one."""
        with self.log.open("a") as log:
            self.running = subprocess.Popen(
                [
                    *(sys.executable, "-c", PROGRAM, "serve"),
                    *("--listen", "127.0.0.1:0", "--data-directory", str(self.directory)),
                    *("--proofs", "none"),
                    *words,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.running.stdout is not None
        line = self.running.stdout.readline()
        if line.startswith("{"):
            self.address = json.loads(line)["address"]
        return line

    def end(self, number: signal.Signals) -> int:
        """Sends a signal and returns the exit status."""
        if self.running is None:
            return 0
        process, self.running = self.running, None
        process.send_signal(number)
        try:
            return process.wait(30)
        finally:
            process.kill()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()

    async def call(self, method: str, request: Any) -> Any:
        """Calls the service once."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = account_service_pb2_grpc.AccountServiceStub(channel)
            return await getattr(stub, method)(request, timeout=60)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AccountProcess]:
    """Gives a process that is not started yet and is gone at the end."""
    process = AccountProcess(tmp_path / "data")
    yield process
    process.end(signal.SIGKILL)


def registration(number: int) -> pb.RegisterRequest:
    """Returns a request for one human."""
    return pb.RegisterRequest(
        request_id=f"q-{number}",
        identifier=pb.Identifier(email=f"secret.person-{number}@example.org"),
    )


async def test_what_was_answered_survives_a_kill(service: AccountProcess) -> None:
    """After kill -9 the same requests get the same answers, and persons are found."""
    service.start()
    before = await asyncio.gather(
        *(service.call("Register", registration(number)) for number in range(20))
    )
    service.end(signal.SIGKILL)
    service.start()
    after = await asyncio.gather(
        *(service.call("Register", registration(number)) for number in range(20))
    )
    resolved = await service.call(
        "ResolvePerson", pb.ResolvePersonRequest(account_ids=[each.account_id for each in before])
    )

    assert [each.account_id for each in before] == [each.account_id for each in after]
    assert [each.replayed for each in after] == [True] * 20
    assert [each.person_id for each in before] == [each.person_id for each in resolved.persons]


async def test_no_identifier_is_written_anywhere(service: AccountProcess) -> None:
    """Neither database nor log holds an identifier, not even of a request that was refused."""
    service.start("--log-level", "DEBUG")
    await service.call("Register", registration(1))
    bad = registration(2)
    bad.request_id = "not an id"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.call("Register", bad)
    kept = b"".join(file.read_bytes() for file in service.directory.iterdir())
    status = service.end(signal.SIGTERM)
    kept += b"".join(file.read_bytes() for file in service.directory.iterdir())
    kept += service.log.read_bytes()

    assert status == 0
    assert b"secret.person" not in kept
    assert "secret.person" not in str(caught.value.details())
    assert b"draining" in service.log.read_bytes()


def test_a_key_that_others_can_read_stops_the_start(service: AccountProcess) -> None:
    """The service ends with status 2 and says which file to close off."""
    service.start()
    assert service.end(signal.SIGTERM) == 0
    (service.directory / "account.key").chmod(0o644)

    assert service.start() == ""
    assert service.running is not None
    assert service.running.wait(30) == 2
    assert "chmod 600" in service.log.read_text()


def test_the_ready_line_can_be_a_sentence(service: AccountProcess) -> None:
    """A human who starts it by hand reads where it serves."""
    assert service.start("--text").startswith("account serves on 127.0.0.1:")
