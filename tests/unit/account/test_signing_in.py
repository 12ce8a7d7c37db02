"""Codes, registrations with a proof, logins and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.gate import BucketSettings
from lastunit.account.senders import SendError
from lastunit.account.settings import AccountSettings
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.errors import ShedError, UnavailableError
from lastunit.service.faults import FaultError

from .house import NEW, PROVE, SIGN_IN, START_MS, House, email, phone

if TYPE_CHECKING:
    from lastunit.service.database import Database

ANNA = email("anna@example.org")
BERT = phone("+4930123456")


async def send(house: House, purpose: pb.CodePurpose.ValueType = SIGN_IN) -> pb.SendCodeResponse:
    """Asks for a code for Anna at once."""
    answer: pb.SendCodeResponse = await house.calls.SendCode(
        pb.SendCodeRequest(identifier=ANNA, purpose=purpose), None
    )
    return answer


async def log_in(house: House, code: str) -> pb.LoginResponse:
    """Logs Anna in with a code."""
    answer: pb.LoginResponse = await house.calls.Login(
        pb.LoginRequest(identifier=ANNA, proof=code), None
    )
    return answer


async def test_one_code_registers_and_logs_in(house: House) -> None:
    """A newcomer needs one code for the account and the first session; it is good once."""
    code = await house.code(ANNA)
    registered = await house.calls.Register(
        pb.RegisterRequest(request_id="q-1", identifier=ANNA, proof=code), None
    )
    session = await log_in(house, code)
    again = await log_in(house, code)

    assert registered.created
    assert session.account_id == registered.account_id
    assert session.account_state == pb.ACCOUNT_STATE_ACTIVE
    assert again.refusal == pb.REFUSAL_PROOF_BAD
    assert again.session_token == ""


async def test_without_a_good_code_nothing_is_made(house: House) -> None:
    """A missing, a wrong and somebody else's code make no account, and no request is remembered."""
    of_bert = await house.code(BERT)
    for proof in ("", "000000x", of_bert):
        answer = await house.calls.Register(
            pb.RegisterRequest(request_id="q-1", identifier=ANNA, proof=proof), None
        )
        assert answer.refusal == pb.REFUSAL_PROOF_BAD
        assert answer.account_id == ""
    good = await house.calls.Register(
        pb.RegisterRequest(request_id="q-1", identifier=ANNA, proof=await house.code(ANNA)), None
    )

    assert good.created
    assert not good.replayed


async def test_a_code_is_good_for_its_purpose_only(house: House) -> None:
    """A code for a change does not log in."""
    await house.register(ANNA)
    for purpose in (PROVE, NEW):
        assert (await log_in(house, await house.code(ANNA, purpose))).refusal == (
            pb.REFUSAL_PROOF_BAD
        )


@pytest.mark.parametrize(("seconds", "refusal"), [(299.999, 0), (300, pb.REFUSAL_PROOF_EXPIRED)])
async def test_a_code_is_good_for_five_minutes(house: House, seconds: float, refusal: int) -> None:
    """To the millisecond."""
    await house.register(ANNA)
    code = await house.code(ANNA)
    house.pass_time(seconds=seconds)

    assert (await log_in(house, code)).refusal == refusal


async def test_five_wrong_tries_spoil_a_code(house: House) -> None:
    """The fifth try may still be the right one, the sixth not, even if it is right."""
    await house.register(ANNA)
    for tries, refusal in ((4, 0), (5, pb.REFUSAL_PROOF_EXPIRED)):
        code = await house.code(ANNA)
        wrong = "000000" if code != "000000" else "111111"
        for _ in range(tries):
            assert (await log_in(house, wrong)).refusal == pb.REFUSAL_PROOF_BAD
        assert (await log_in(house, code)).refusal == refusal


async def test_a_new_code_makes_the_old_one_void(house: House) -> None:
    """Who asked twice uses the second one."""
    await house.register(ANNA)
    old = await house.code(ANNA)
    new = await house.code(ANNA)

    assert old == new or (await log_in(house, old)).refusal == pb.REFUSAL_PROOF_BAD
    assert (await log_in(house, new)).refusal == 0


async def test_one_code_a_minute_and_five_an_hour(house: House) -> None:
    """One more is refused, and the answer says to the millisecond when the next one may be sent."""
    assert (await send(house)).refusal == 0
    house.pass_time(seconds=59.999)
    early = await send(house)
    house.pass_time(seconds=0.001)
    for _ in range(4):
        assert (await send(house)).refusal == 0
        house.pass_time(seconds=60)
    sixth = await send(house)
    other = await house.calls.SendCode(pb.SendCodeRequest(identifier=BERT, purpose=SIGN_IN), None)
    house.clock.advance_to(sixth.come_back_time.ToMilliseconds())

    assert early.refusal == pb.REFUSAL_RATE_LIMITED
    assert early.come_back_time.ToMilliseconds() == START_MS + 60_000
    assert sixth.refusal == pb.REFUSAL_RATE_LIMITED
    assert sixth.come_back_time.ToMilliseconds() == START_MS + 3_600_000
    assert other.refusal == 0
    assert (await send(house)).refusal == 0


async def test_who_guesses_all_day_is_blocked(house: House) -> None:
    """After thirty wrong codes in a day no further one is sent until that day is over."""
    await house.register(ANNA)
    guesses = 0
    while guesses < 30:
        code = await house.code(ANNA)
        wrong = "000000" if code != "000000" else "111111"
        for _ in range(5):
            guesses += (await log_in(house, wrong)).refusal == pb.REFUSAL_PROOF_BAD
        house.pass_time(seconds=3_600)
    blocked = await send(house)
    house.clock.advance_to(blocked.come_back_time.ToMilliseconds() - 1)
    still = await send(house)
    house.pass_time(seconds=0.001)

    assert (blocked.refusal, still.refusal) == (pb.REFUSAL_BLOCKED, pb.REFUSAL_BLOCKED)
    assert (await send(house)).refusal == 0


async def test_a_code_that_could_not_be_sent_does_not_count(house: House) -> None:
    """A mail server that is down costs nobody their minute."""
    house.sender.fail_next = SendError("the mail server is down", is_final=False)
    with pytest.raises(UnavailableError, match="try again soon"):
        await send(house)

    assert (await send(house)).refusal == 0


async def test_an_identifier_that_no_message_reaches_is_refused(house: House) -> None:
    """A mail server's final no, and a login at somebody else, are told as what they are."""
    house.sender.fail_next = SendError("no such mailbox", is_final=True)
    external = pb.Identifier(external=pb.ExternalLogin(issuer="bank", subject="4711"))
    answer = await house.calls.SendCode(
        pb.SendCodeRequest(identifier=external, purpose=SIGN_IN), None
    )

    assert (await send(house)).refusal == pb.REFUSAL_IDENTIFIER_BAD
    assert answer.refusal == pb.REFUSAL_IDENTIFIER_BAD


async def test_a_login_at_somebody_else_is_taken_at_the_callers_word(house: House) -> None:
    """The caller has checked it; it leads to one account whatever its letters look like to us."""
    bank = pb.Identifier(external=pb.ExternalLogin(issuer="bank", subject="Anna4711"))
    other = pb.Identifier(external=pb.ExternalLogin(issuer="bank", subject="anna4711"))
    first = await house.calls.Register(pb.RegisterRequest(request_id="q-1", identifier=bank), None)
    second = await house.calls.Register(
        pb.RegisterRequest(request_id="q-2", identifier=other), None
    )
    session = await house.calls.Login(pb.LoginRequest(identifier=bank), None)
    shown = await house.calls.GetAccount(pb.GetAccountRequest(account_id=first.account_id), None)

    assert first.account_id != second.account_id
    assert session.account_id == first.account_id
    assert shown.account.masked_identifier == "bank:A*****"


async def test_a_session_lasts_a_day_and_ends_by_logout(house: House) -> None:
    """It says whose it is until it ends; a token that nobody was given says nothing."""
    await house.register(ANNA)
    first, second = await house.log_in(ANNA), await house.log_in(ANNA)

    async def check(token: str) -> pb.CheckSessionResponse:
        answer: pb.CheckSessionResponse = await house.calls.CheckSession(
            pb.CheckSessionRequest(session_token=token), None
        )
        return answer

    alive = await check(first.session_token)
    await house.calls.EndSession(pb.EndSessionRequest(session_token=first.session_token), None)
    ended = await check(first.session_token)
    house.clock.advance_to(second.session_expire_time.ToMilliseconds() - 1)
    late = await check(second.session_token)
    house.pass_time(seconds=0.001)

    assert (alive.account_id, alive.refusal) == (first.account_id, 0)
    assert ended.refusal == pb.REFUSAL_SESSION_ENDED
    assert late.refusal == 0
    assert (await check(second.session_token)).refusal == pb.REFUSAL_SESSION_ENDED
    assert (await check("a-guess")).refusal == pb.REFUSAL_SESSION_ENDED


async def test_no_secret_of_a_session_or_code_is_stored(house: House) -> None:
    """Neither a token nor a code nor an identifier is in any row."""
    await house.register(ANNA)
    token = (await house.log_in(ANNA)).session_token
    code = await house.code(ANNA)
    rows = ""
    with house.database.read() as connection:
        for table in _tables.metadata.sorted_tables:
            rows += repr(connection.execute(sa.select(table)).all())

    assert token not in rows
    assert f"'{code}'" not in rows
    assert "anna@" not in rows
    assert "a*****@e*****.org" in rows


async def test_what_counts_no_more_is_swept(house: House) -> None:
    """Codes go after a day and sessions when they have ended by themselves."""
    await house.register(ANNA)
    await house.log_in(ANNA)
    house.pass_time(days=1.01)
    await house.upkeep()
    with house.database.read() as connection:
        for table in (_tables.codes, _tables.sessions):
            assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_a_flood_of_newcomers_leaves_logins_alone(database: Database) -> None:
    """Past its bucket a sign-up is told when to come back, while codes and logins go on."""
    few = BucketSettings("sign_up", 0.1, burst_calls=3, at_once_max=10)
    settings = AccountSettings(proofs="code", sender="sandbox", sign_up=few)
    house = House(database, settings=settings)
    await house.register(ANNA)
    shed: list[str] = []
    for number in range(10):
        newcomer = email(f"new-{number}@example.org")
        try:
            await house.calls.SendCode(
                pb.SendCodeRequest(identifier=newcomer, purpose=SIGN_IN), None
            )
        except ShedError as error:
            shed.append(error.bucket)

    assert shed == ["sign_up"] * 9
    assert (await house.log_in(ANNA)).refusal == 0


async def test_without_a_sender_the_operator_is_told(database: Database) -> None:
    """A service for simulations sends no codes and says how to start one that does."""
    house = House(database, settings=AccountSettings())
    house.parts.sign_in._sender = None
    with pytest.raises(FaultError, match="--sender smtp") as caught:
        await send(house)

    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED
    await house.calls.Register(pb.RegisterRequest(request_id="q-1", identifier=ANNA), None)
    assert (await log_in(house, "")).refusal == 0


def test_codes_without_a_sender_are_refused_at_the_start() -> None:
    """The settings name both ways out."""
    with pytest.raises(ValueError, match="--sender smtp"):
        AccountSettings(proofs="code", sender="none")
