"""The processes of order and payment, started as an operator would.

Owns: starting, the ready line, and that nothing is left running.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lastunit.account.v1 import account_service_pb2, account_service_pb2_grpc
from lastunit.service.server import ServiceServer

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a key of sixteen bytes"


@dataclass
class Processes:
    """Starts processes and stops them all.

    Attributes:
        directory: For their databases and logs.
        payment: Address of the payment service, once it runs.
    """

    directory: Path
    payment: str = ""
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, name: str, module: str, *words: str) -> dict[str, Any]:
        """Starts `python -m module words…` and returns its ready line."""
        environment = os.environ | {"LASTUNIT_WEBHOOK_KEYS": KEY}
        log = (self.directory / f"{name}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        log.close()
        self.running[name] = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"{name} did not start:\n{self.log(name)}"
        ready: dict[str, Any] = json.loads(line)
        return ready

    async def run(self, *words: str, status: int = 0) -> str:
        """Runs `lastunit order words…` to its end; returns what it said."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lastunit.order.cli", *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"COLUMNS": "400"},
        )
        said, _ = await process.communicate()
        assert status == process.returncode, said.decode()
        return said.decode()

    def log(self, name: str) -> str:
        """Returns what a process has written to its log."""
        return (self.directory / f"{name}.log").read_text()

    def kill(self, name: str) -> None:
        """Ends a process as a crash would."""
        process = self.running.pop(name)
        process.kill()
        self._reap(process)

    def stop(self, name: str) -> int:
        """Asks a process to stop and returns its exit status."""
        process = self.running.pop(name)
        process.terminate()
        return self._reap(process)

    def stop_all(self) -> dict[str, int]:
        """Stops everything, last started first; returns the exit statuses."""
        return {name: self.stop(name) for name in reversed(tuple(self.running))}

    def _reap(self, process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        process.stdout.close()
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
            raise

    def start_sandbox(self, webhook_address: str, knobs: str = "{}") -> str:
        """Starts the sandbox; returns its address."""
        url = f"http://{webhook_address}/v1/callbacks/sandbox"
        ready = self.start(
            "sandbox", "lastunit.payment.cli", "sandbox", "--callback-url", url, "--knobs", knobs
        )
        return str(ready["address"])

    def start_webhook(self, address: str = "127.0.0.1:0") -> str:
        """Starts the webhook; returns its address."""
        directory = str(self.directory / "payment")
        words = ("webhook", "--data-directory", directory, "--address", address)
        return str(self.start("webhook", "lastunit.payment.cli", *words)["address"])


class _AccountServicer(account_service_pb2_grpc.AccountServiceServicer):
    """Knows every account called `account-…`."""

    async def ResolvePerson(  # noqa: N802 - gRPC's name
        self, request: account_service_pb2.ResolvePersonRequest, _context: Any
    ) -> account_service_pb2.ResolvePersonResponse:
        """Answers."""
        return account_service_pb2.ResolvePersonResponse(
            persons=[
                account_service_pb2.ResolvedPerson(
                    account_id=each,
                    person_id=each.replace("account", "person"),
                    home_person_id=each.replace("account", "person"),
                    state=account_service_pb2.ACCOUNT_STATE_ACTIVE,
                )
                for each in request.account_ids
                if each.startswith("account-")
            ]
        )


async def account_server() -> ServiceServer:
    """Starts an account service in this process."""
    server = ServiceServer("account", service_names=("lastunit.account.v1.AccountService",))
    # The methods that are missing answer UNIMPLEMENTED, which is what they are here.
    servicer = _AccountServicer()  # type: ignore[abstract]
    account_service_pb2_grpc.add_AccountServiceServicer_to_server(servicer, server.grpc)
    await server.start()
    return server
