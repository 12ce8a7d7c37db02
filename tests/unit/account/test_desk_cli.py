"""The commands with which support staff look after persons, against a real service over gRPC."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from lastunit.account.cli import app
from lastunit.account.process import add_account_service, open_database
from lastunit.account.servicer import SERVICE_NAME
from lastunit.account.settings import AccountSettings
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.service.server import ServiceServer

from .house import House, email, phone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.one_database

OLD, NEW = phone("+4930123456"), email("anna.example@example.org")
NUMBER = "ID1234561"


class Desk:
    """An account service that is served from a thread, and the command line before it.

    In it Anna has an account with a dead phone, which has her real name, and another one.
    """

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self._open(path))

    def run(self, work: Any) -> Any:
        """Runs something in the service's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def _open(self, path: Path) -> None:
        self.database = open_database(path)
        self.house = House(self.database, settings=AccountSettings(proofs="none"))
        self.server = ServiceServer("account", service_names=(SERVICE_NAME,))
        add_account_service(self.server, self.house.parts)
        self.address = await self.server.start()
        calls = self.house.calls
        self.old, self.new = [
            await calls.Register(pb.RegisterRequest(request_id=name, identifier=identifier), None)
            for name, identifier in (("r-1", OLD), ("r-2", NEW))
        ]
        name = pb.RealName(name="Anna Example", number=NUMBER, evidence="seen at the desk")
        for request_id, account in (("b-1", self.old), ("b-2", self.new)):
            await calls.BindRealName(
                pb.BindRealNameRequest(
                    request_id=request_id, account_id=account.account_id, real_name=name
                ),
                None,
            )
        opened = await calls.OpenClaim(
            pb.OpenClaimRequest(
                request_id="c-1",
                account_id=self.new.account_id,
                real_name=name,
            ),
            None,
        )
        assert not opened.refusal, opened
        self.claim = opened

    def close(self) -> None:
        """Ends it."""
        self.run(self.server.stop(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.database.close()

    def command(self, *words: str, status: int = 0, text: str | None = None) -> str:
        """Runs a command and returns what it printed."""
        done = CliRunner().invoke(app, [*words, "--account-address", self.address], input=text)
        assert done.exit_code == status, done.output
        return done.output


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A service with a claim that waits."""
    opened = Desk(tmp_path / "account.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("way", ["argument", "standard input"])
def test_an_account_is_found_by_its_identifier_which_stays_masked(desk: Desk, way: str) -> None:
    """The look leaves a row with who and why."""
    words = ["--reason", "she called", "--actor", "ann"]
    if way == "argument":
        told = desk.command("find", OLD.phone, *words)
    else:
        told = desk.command("find", *words, text=f"{OLD.phone}\n")
    accesses = desk.run(
        desk.house.calls.ListAccesses(
            pb.ListAccessesRequest(subject=desk.old.account_id, page_size=10), None
        )
    )

    assert desk.old.account_id in told
    assert OLD.phone not in told
    assert [(each.actor, each.reason) for each in accesses.records] == [("ann", "she called")]


def test_what_leads_nowhere_is_said_without_repeating_it(desk: Desk) -> None:
    """An unknown address and an external login; neither is printed."""
    for name in ("stranger@example.org", "github/12345"):
        told = desk.command("find", name, "--reason", "x", status=1)
        assert "leads to no account: UNKNOWN_IDENTIFIER" in told
        assert name not in told


def test_a_person_is_explained_by_any_of_its_ids(desk: Desk) -> None:
    """Accounts, identifiers, union, claim and every move; the same by account and as JSON."""
    told = desk.command("explain", desk.new.person_id)
    by_account = desk.command("explain", desk.new.account_id)
    shown = json.loads(desk.command("explain", desk.new.account_id, "--json"))

    assert told == by_account
    assert f"{desk.new.person_id} counts as one with {desk.old.person_id}" in told
    assert f"claim {desk.claim.claim.claim_id}  WAITING" in told
    assert "NONE -> OPENED  OPEN" in told
    assert NEW.email not in told
    assert shown["person"]["person_id"] == desk.new.person_id
    assert shown["transitions"]
    assert "UNKNOWN_PERSON" in desk.command("explain", "p-nobody", status=1)


def test_a_claim_is_listed_approved_confirmed_and_its_merge_taken_back(desk: Desk) -> None:
    """Each decision is done once for its request; the last one lets both count apart again."""
    claim_id = desk.claim.claim.claim_id
    (listed,) = [json.loads(each) for each in desk.command("claims", "--json").splitlines()]
    why = ("--reason", "her passport", "--actor", "ann", "--request-id", "d-1")
    approved, again = (desk.command("approve", claim_id, *why) for _ in range(2))
    confirmed = desk.run(
        desk.house.calls.ConfirmClaim(
            pb.ConfirmClaimRequest(
                request_id="k-1", claim_id=claim_id, claim_token=desk.claim.claim_token
            ),
            None,
        )
    )
    reversed_ = desk.command("reverse", confirmed.merge.merge_id, "--reason", "two humans")
    late = desk.command("reverse", confirmed.merge.merge_id, "--reason", "again", status=1)
    told = desk.command("explain", desk.new.person_id)

    assert listed["claim_id"] == claim_id
    assert f"claim {claim_id}  APPROVED" in approved
    assert "as decided before" in again
    assert f"merge {confirmed.merge.merge_id}  REVERSED" in reversed_
    assert "WRONG_STATE" in late
    assert f"counted as one with {desk.old.person_id}" in told
    assert "by ann: her passport" in told
    assert desk.command("claims", "--state", "waiting").strip() == "there is none"


def test_a_claim_is_rejected_with_a_reason(desk: Desk) -> None:
    """The union stays; a word that is no state and a claim that is none are refused."""
    claim_id = desk.claim.claim.claim_id
    rejected = desk.command("reject", claim_id, "--reason", "not her")
    told = desk.command("explain", desk.new.person_id)

    assert f"claim {claim_id}  REJECTED" in rejected
    assert f"counts as one with {desk.old.person_id}" in told
    assert "UNKNOWN_CLAIM" in desk.command("reject", "c-none", "--reason", "x", status=1)
    assert "is none of" in desk.command("claims", "--state", "lost", status=2)
