"""Stories of people and their logins, from the first call to the last, on both databases.

Each is one line of what went wrong in the incident: a new phone that made a new user, a number that
belongs to somebody else now, an account that should be used by one login only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

from .house import House, email, phone

if TYPE_CHECKING:
    from lastunit.service.database import Database

ANNA = email("anna@example.org")
OLD_PHONE = phone("+4930123456")
NEW_PHONE = phone("+4930654321")


async def person_of(house: House, *account_ids: str) -> list[str]:
    """Returns the live persons of accounts."""
    answer = await house.calls.ResolvePerson(pb.ResolvePersonRequest(account_ids=account_ids), None)
    return [person.person_id for person in answer.persons]


async def bind(house: House, account_id: str, number: str) -> pb.BindRealNameResponse:
    """Binds Anna's real name to an account."""
    answer: pb.BindRealNameResponse = await house.calls.BindRealName(
        pb.BindRealNameRequest(
            request_id=house.request_id(),
            account_id=account_id,
            real_name=pb.RealName(name="Anna Example", number=number),
        ),
        None,
    )
    return answer


async def add(house: House, account_id: str, new: pb.Identifier, **proof: Any) -> Any:
    """Adds an identifier to an account."""
    return await house.calls.AddIdentifier(
        pb.AddIdentifierRequest(
            request_id=house.request_id(),
            account_id=account_id,
            new_proof=await house.new_proof(new),
            **proof,
        ),
        None,
    )


async def test_one_person_has_accounts_and_each_has_identifiers(house: House) -> None:
    """Person 1 to n account 1 to n identifier: phone, e-mail and a login at somebody else."""
    first = await house.register(ANNA)
    await add(house, first.account_id, OLD_PHONE, proof=await house.proof(ANNA))
    second = await house.register(NEW_PHONE)
    await house.calls.LinkByLogin(
        pb.LinkByLoginRequest(
            request_id=house.request_id(),
            source_proof=await house.proof(NEW_PHONE),
            target_proof=await house.proof(ANNA),
        ),
        None,
    )
    shown = await house.calls.GetPerson(pb.GetPersonRequest(account_id=second.account_id), None)

    assert {each.account_id for each in shown.accounts} == {
        first.account_id,
        second.account_id,
    }
    assert sorted((each.account_id, each.masked) for each in shown.identifiers) == sorted(
        [
            (first.account_id, "a*****@e*****.org"),
            (first.account_id, "+49*****456"),
            (second.account_id, "+49*****321"),
        ]
    )


async def test_a_new_phone_is_not_a_new_user(house: House) -> None:
    """Anna changes her number: with her old phone, or with her real name when that is dead."""
    anna = await house.register(OLD_PHONE)
    await bind(house, anna.account_id, "L01X00T47")
    session = await house.log_in(OLD_PHONE)
    old_id = (
        (await house.calls.GetPerson(pb.GetPersonRequest(account_id=anna.account_id), None))
        .identifiers[0]
        .identifier_id
    )
    changed = await house.calls.ChangeIdentifier(
        pb.ChangeIdentifierRequest(
            request_id=house.request_id(),
            account_id=anna.account_id,
            identifier_id=old_id,
            new_proof=await house.new_proof(NEW_PHONE),
            real_name=pb.RealName(name="Anna Example", number="l01x 00t-47"),
        ),
        None,
    )
    back = await house.log_in(NEW_PHONE)
    gone = await house.log_in(OLD_PHONE)
    check = await house.calls.CheckSession(
        pb.CheckSessionRequest(session_token=session.session_token), None
    )

    assert changed.identifier.masked == "+49*****321"
    assert (back.account_id, back.person_id) == (anna.account_id, anna.person_id)
    assert gone.refusal == pb.REFUSAL_UNKNOWN_IDENTIFIER
    assert check.refusal == pb.REFUSAL_SESSION_ENDED


async def test_a_changed_identifier_needs_both_proofs(house: House) -> None:
    """Neither the new one's code alone, nor another identifier's, nor a wrong name will do."""
    anna = await house.register(OLD_PHONE)
    await add(house, anna.account_id, ANNA, proof=await house.proof(OLD_PHONE))
    await bind(house, anna.account_id, "L01X00T47")
    shown = await house.calls.GetPerson(pb.GetPersonRequest(account_id=anna.account_id), None)
    old_id = next(each for each in shown.identifiers if "456" in each.masked).identifier_id

    async def change(**right: Any) -> int:
        answer = await house.calls.ChangeIdentifier(
            pb.ChangeIdentifierRequest(
                request_id=house.request_id(),
                account_id=anna.account_id,
                identifier_id=old_id,
                new_proof=await house.new_proof(NEW_PHONE),
                **right,
            ),
            None,
        )
        return int(answer.refusal)

    by_mail = await house.proof(ANNA)
    wrong = pb.CodeProof(identifier=OLD_PHONE, code="000000")
    by_phone = await house.proof(OLD_PHONE)

    assert await change(old_proof=by_mail.code) == pb.REFUSAL_PROOF_BAD
    assert await change(old_proof=wrong) == pb.REFUSAL_PROOF_BAD
    assert (
        await change(real_name=pb.RealName(name="Anna Example", number="X1234567"))
        == pb.REFUSAL_CHECK_FAILED
    )
    house.pass_time(seconds=3_600)
    by_phone = await house.proof(OLD_PHONE)
    assert await change(old_proof=by_phone.code) == 0
    assert (await house.log_in(NEW_PHONE)).account_id == anna.account_id


async def test_an_email_registrant_who_now_uses_a_phone_is_the_same_user(house: House) -> None:
    """By a verified e-mail the new phone joins; without it the real name says who it is."""
    by_mail = await house.register(ANNA)
    bound = await bind(house, by_mail.account_id, "L01X00T47")
    by_phone = await house.register(NEW_PHONE)
    met = await bind(house, by_phone.account_id, "L01X00T47")
    linked = await house.calls.LinkByLogin(
        pb.LinkByLoginRequest(
            request_id=house.request_id(),
            source_proof=await house.proof(NEW_PHONE),
            target_proof=await house.proof(ANNA),
        ),
        None,
    )
    persons = await person_of(house, by_mail.account_id, by_phone.account_id)

    assert bound.refusal == 0
    assert met.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert [each.masked for each in met.hints] == ["a*****@e*****.org"]
    assert any(each.is_open for each in met.exits)
    assert linked.refusal == 0
    assert persons == [by_mail.person_id] * 2


async def test_an_identifier_has_one_owner(house: House) -> None:
    """What leads to another account is not added; its owner is shown masked to who proved it."""
    anna = await house.register(ANNA)
    bert = await house.register(OLD_PHONE)
    taken = await add(house, bert.account_id, ANNA, proof=await house.proof(OLD_PHONE))
    foreign = await add(house, anna.account_id, NEW_PHONE, proof=await house.proof(OLD_PHONE))

    assert (taken.refusal, taken.masked_owner) == (
        pb.REFUSAL_IDENTIFIER_IN_USE,
        "a*****@e*****.org",
    )
    assert foreign.refusal == pb.REFUSAL_PROOF_BAD


async def test_a_recycled_number_becomes_its_new_owners(house: House) -> None:
    """After 90 days and a week's notice the number is free; the account stays with its owner."""
    anna = await house.register(OLD_PHONE)
    await add(house, anna.account_id, ANNA, proof=await house.proof(OLD_PHONE))
    house.pass_time(days=90)
    await house.upkeep()
    waiting = await house.register(OLD_PHONE, is_recycled=True)
    await house.upkeep()
    notice = house.sender.sent[-1]
    house.clock.advance_to(waiting.release_time.ToMilliseconds() - 1)
    await house.upkeep()
    early = await house.calls.GetAccount(pb.GetAccountRequest(account_id=anna.account_id), None)
    house.pass_time(seconds=0.001)
    await house.upkeep()
    bert = await house.register(OLD_PHONE, is_recycled=True)
    back = await house.log_in(ANNA)

    assert waiting.refusal == pb.REFUSAL_WAITING
    assert notice.message.subject == "Somebody else has a login of yours"
    assert notice.identifier.masked() == "a*****@e*****.org"
    assert early.account.masked_identifier == "+49*****456"
    assert bert.created
    assert bert.person_id != anna.person_id
    assert (back.account_id, back.person_id) == (anna.account_id, anna.person_id)


async def test_a_number_in_use_is_not_recycled(house: House) -> None:
    """Used within 90 days it stays; an owner who logs in during the notice keeps it too."""
    anna = await house.register(OLD_PHONE)
    house.pass_time(days=89.9)
    early = await house.register(OLD_PHONE, is_recycled=True)
    house.pass_time(days=0.2)
    waiting = await house.register(OLD_PHONE, is_recycled=True)
    kept = await house.log_in(OLD_PHONE)
    house.pass_time(days=8)
    await house.upkeep()
    still = await house.log_in(OLD_PHONE)

    assert early.refusal == pb.REFUSAL_IDENTIFIER_NOT_DORMANT
    assert waiting.refusal == pb.REFUSAL_WAITING
    assert kept.disputed_identifier_ids == []
    assert still.account_id == anna.account_id


async def set_policy(house: House, policy: pb.AccountPolicy.ValueType) -> Any:
    """Sets how many accounts a person may use."""
    return await house.calls.SetPolicy(
        pb.SetPolicyRequest(
            request_id=house.request_id(), policy=policy, actor="ops", reason="campaign"
        ),
        None,
    )


async def states(house: House, *account_ids: str) -> list[str]:
    """Returns the states of accounts, without their prefix."""
    answer = await house.calls.ResolvePerson(pb.ResolvePersonRequest(account_ids=account_ids), None)
    return [
        pb.AccountState.Name(each.state).removeprefix("ACCOUNT_STATE_") for each in answer.persons
    ]


async def test_with_multi_a_person_uses_all_accounts_and_with_single_one(house: House) -> None:
    """SINGLE locks all but one, the person may choose another, and MULTI opens all again."""
    one = (await house.register(ANNA)).account_id
    two = (await house.register(NEW_PHONE)).account_id
    other = (await house.register(OLD_PHONE)).account_id
    link = pb.LinkByLoginRequest(
        request_id=house.request_id(),
        source_proof=await house.proof(NEW_PHONE),
        target_proof=await house.proof(ANNA),
    )
    await house.calls.LinkByLogin(link, None)
    multi = await states(house, one, two, other)
    await house.log_in(ANNA)
    await set_policy(house, pb.ACCOUNT_POLICY_SINGLE)
    single = await states(house, one, two, other)
    greeting = await house.log_in(NEW_PHONE)
    chosen = await house.calls.ChooseAccount(
        pb.ChooseAccountRequest(
            request_id=house.request_id(),
            proof=pb.Proof(session_token=greeting.session_token),
        ),
        None,
    )
    after = await states(house, one, two, other)
    await set_policy(house, pb.ACCOUNT_POLICY_MULTI)

    assert multi == ["ACTIVE", "ACTIVE", "ACTIVE"]
    assert single == ["ACTIVE", "LOCKED", "ACTIVE"]
    assert greeting.must_choose
    assert chosen.account.account_id == two
    assert after == ["LOCKED", "ACTIVE", "ACTIVE"]
    assert await states(house, one, two, other) == ["ACTIVE"] * 3


async def test_with_single_a_second_account_is_locked_when_it_joins(house: House) -> None:
    """The policy holds from the moment that two accounts turn out to be one person's."""
    await set_policy(house, pb.ACCOUNT_POLICY_SINGLE)
    one = (await house.register(ANNA)).account_id
    await house.log_in(ANNA)
    two = (await house.register(NEW_PHONE)).account_id
    linked = await house.calls.LinkByLogin(
        pb.LinkByLoginRequest(
            request_id=house.request_id(),
            source_proof=await house.proof(NEW_PHONE),
            target_proof=await house.proof(ANNA),
        ),
        None,
    )
    await house.parts.watch.follow_once()
    joined = await states(house, one, two)
    await house.calls.ReverseMerge(
        pb.ReverseMergeRequest(
            request_id=house.request_id(),
            merge_id=linked.merge.merge_id,
            actor="support-1",
            reason="two people",
        ),
        None,
    )
    await house.parts.watch.follow_once()

    assert sorted(joined) == ["ACTIVE", "LOCKED"]
    assert await states(house, one, two) == ["ACTIVE", "ACTIVE"]


async def test_a_policy_that_somebody_else_changed_is_not_overwritten(house: House) -> None:
    """Who read an older version is told to read again."""
    await set_policy(house, pb.ACCOUNT_POLICY_SINGLE)
    await set_policy(house, pb.ACCOUNT_POLICY_MULTI)
    stale = await house.calls.SetPolicy(
        pb.SetPolicyRequest(
            request_id="q-stale",
            policy=pb.ACCOUNT_POLICY_SINGLE,
            if_version=1,
            actor="ops",
            reason="campaign",
        ),
        None,
    )
    found = await house.calls.GetPolicy(pb.GetPolicyRequest(), None)

    assert stale.refusal == pb.REFUSAL_VERSION_MISMATCH
    assert (found.policy, found.version) == (pb.ACCOUNT_POLICY_MULTI, 2)


async def test_a_locked_account_may_look_and_a_closed_one_is_gone(house: House) -> None:
    """Lock ends the sessions and unlock opens again; close frees the identifier for good."""
    anna = (await house.register(ANNA)).account_id
    session = await house.log_in(ANNA)
    support = {"account_id": anna, "actor": "support-1", "reason": "called"}

    async def do(method: str, request_type: Any, **more: Any) -> Any:
        request = request_type(request_id=house.request_id(), **support, **more)
        return await getattr(house.calls, method)(request, None)

    locked = await do("LockAccount", pb.LockAccountRequest)
    ended = await house.calls.CheckSession(
        pb.CheckSessionRequest(session_token=session.session_token), None
    )
    twice = await do("LockAccount", pb.LockAccountRequest)
    looking = await house.log_in(ANNA)
    unlocked = await do("UnlockAccount", pb.UnlockAccountRequest)
    house.paying_account_ids.add(anna)
    paying = await do("CloseAccount", pb.CloseAccountRequest, proof=await house.proof(ANNA))
    house.paying_account_ids.clear()
    wrong = await do(
        "CloseAccount", pb.CloseAccountRequest, proof=pb.Proof(session_token="a-guess")
    )
    closed = await do("CloseAccount", pb.CloseAccountRequest, proof=await house.proof(ANNA))
    house.pass_time(seconds=3_600)
    gone = await house.log_in(ANNA)
    anew = await house.register(ANNA)

    assert locked.account.lock_reason == pb.LOCK_REASON_OPERATOR
    assert ended.refusal == pb.REFUSAL_SESSION_ENDED
    assert (twice.refusal, twice.account.state) == (
        pb.REFUSAL_WRONG_STATE,
        pb.ACCOUNT_STATE_LOCKED,
    )
    assert looking.account_state == pb.ACCOUNT_STATE_LOCKED
    assert unlocked.account.state == pb.ACCOUNT_STATE_ACTIVE
    assert paying.refusal == pb.REFUSAL_ORDER_IN_PAYMENT
    assert wrong.refusal == pb.REFUSAL_PROOF_BAD
    assert closed.account.state == pb.ACCOUNT_STATE_CLOSED
    assert gone.refusal == pb.REFUSAL_UNKNOWN_IDENTIFIER
    assert anew.created
    assert anew.account_id != anna


async def test_whoever_looks_leaves_a_trace(house: House) -> None:
    """A search by support and the sending of a notice are in the access log; nothing is shown."""
    anna = await house.register(ANNA)
    found = await house.calls.FindAccount(
        pb.FindAccountRequest(identifier=ANNA, actor="support-1", reason="called us"), None
    )
    await house.calls.LockAccount(
        pb.LockAccountRequest(
            request_id="q-lock", account_id=anna.account_id, actor="support-1", reason="fraud"
        ),
        None,
    )
    await house.upkeep()
    identifier_id = f"i-{anna.account_id}"
    subjects = {}
    for subject in (anna.account_id, identifier_id):
        answer = await house.calls.ListAccesses(
            pb.ListAccessesRequest(subject=subject, page_size=10), None
        )
        subjects[subject] = [(each.actor, each.field) for each in answer.records]
    first = await house.calls.ListAccesses(
        pb.ListAccessesRequest(subject=identifier_id, page_size=1), None
    )
    second = await house.calls.ListAccesses(
        pb.ListAccessesRequest(
            subject=identifier_id, page_size=1, page_token=first.next_page_token
        ),
        None,
    )

    assert found.account.masked_identifier == "a*****@e*****.org"
    assert subjects[anna.account_id] == [("support-1", "search")]
    assert subjects[identifier_id] == [("support-1", "search"), ("notices", "identifier")]
    assert [each.field for each in (*first.records, *second.records)] == ["search", "identifier"]
    assert second.next_page_token == ""
    assert isinstance(first.records[0], person_pb2.AccessRecord)


@pytest.mark.parametrize("fails", [1, 6])
async def test_a_notice_is_tried_again_until_it_is_old_news(house: House, fails: int) -> None:
    """A mail server that is back within a day gets it; after six failures it is given up."""
    from lastunit.account.senders import SendError

    anna = await house.register(ANNA)
    await house.calls.LockAccount(
        pb.LockAccountRequest(
            request_id="q-lock", account_id=anna.account_id, actor="support-1", reason="fraud"
        ),
        None,
    )
    before = len(house.sender.sent)
    for _ in range(fails):
        house.sender.fail_next = SendError("down", is_final=False)
        await house.upkeep()
        house.pass_time(days=0.51)
    house.sender.fail_next = None
    await house.upkeep()
    with house.database.read() as connection:
        row = connection.execute(sa.select(_tables.notices)).one()

    assert len(house.sender.sent) - before == (1 if fails == 1 else 0)
    assert row.due_ms is None
    assert (row.send_ms is None) == (fails == 6)


async def test_an_identifier_from_before_keeps_leading_home(database: Database) -> None:
    """One that was stored without its text is found, and its text is sealed at the next login."""
    house = House(database)
    anna = await house.register(ANNA)
    table = _tables.identifiers
    await database.run(
        lambda connection: connection.execute(sa.update(table).values(ciphertext=None))
    )
    back = await house.log_in(ANNA)
    with database.read() as connection:
        sealed = connection.scalar(sa.select(table.c.ciphertext))

    assert back.account_id == anna.account_id
    assert sealed is not None
    assert b"anna" not in sealed
