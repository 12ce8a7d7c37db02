"""The account service as a process beside a real ledger: who is told to be one, counts as one."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tests.integration.payment.system import LedgerProcess

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.client.aio import StockClient

from .test_process import AccountProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerProcess]:
    """A running ledger."""
    started = LedgerProcess.start(tmp_path / "ledger", clock="system")
    yield started
    started.stop()


@pytest.fixture
def service(tmp_path: Path, ledger: LedgerProcess) -> Iterator[AccountProcess]:
    """An account service that knows the ledger."""
    process = AccountProcess(tmp_path / "data")
    words = ("--settlement-address", ledger.settlement_address, "--name-checker", "sandbox")
    assert process.start(*words)
    yield process
    process.end(signal.SIGKILL)


def binding(request_id: str, account_id: str) -> pb.BindRealNameRequest:
    """Proves the same real name each time."""
    return pb.BindRealNameRequest(
        request_id=request_id,
        account_id=account_id,
        real_name=pb.RealName(name="Anna Example", number="ID1234561"),
    )


async def test_the_ledger_counts_two_as_one_before_the_caller_is_told(
    service: AccountProcess, ledger: LedgerProcess
) -> None:
    """When IDENTITY_BOUND is answered, the merge of the two home persons is in the journal."""
    first, second = [
        await service.call(
            "Register",
            pb.RegisterRequest(
                request_id=f"q-{name}", identifier=pb.Identifier(email=f"{name}@example.org")
            ),
        )
        for name in ("one", "two")
    ]
    verified = await service.call("BindRealName", binding("b-1", first.account_id))
    bound = await service.call("BindRealName", binding("b-2", second.account_id))
    async with StockClient(ledger.address, settlement_address=ledger.settlement_address) as client:
        events = [event async for event in client.read_events(0, follow=False, page_size=100)]
    merged = [event for event in events if event.HasField("persons_merged")]

    assert (verified.refusal, bound.refusal) == (
        pb.REFUSAL_UNSPECIFIED,
        pb.REFUSAL_IDENTITY_BOUND,
    )
    assert [(event.caller, event.actor) for event in merged] == [("account", "account")]
    [told] = [event.persons_merged for event in merged]
    assert {told.source_person_id, told.target_person_id} == {
        first.home_person_id,
        second.home_person_id,
    }
