"""One human, several accounts: how it comes, and that there is always a way out.

Each test is the story of one human, told with codes, waits and notices as they would see them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

from .story import email, open_exits, phone

if TYPE_CHECKING:
    from .story import Story

OLD_PHONE = phone("+4915112345678")
NEW_PHONE = phone("+4915187654321")
MAIL = email("anna@example.org")
NUMBER = "L01X00T47"


async def test_a_real_name_has_one_owner(story: Story) -> None:
    """Anna proves her name with one account; with another account the same name is still hers."""
    first = await story.register(OLD_PHONE)
    second = await story.register(MAIL)
    assert not (await story.bind(first.account_id, NUMBER)).refusal

    answer = await story.bind(second.account_id, NUMBER.lower())

    assert answer.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert await story.person(first.account_id) != await story.person(second.account_id)
    assert await story.counts_with(second.account_id) == {first.account_id, second.account_id}


async def test_a_new_phone_is_no_new_human(story: Story) -> None:
    """Anna has a new phone and still the old one: logging in to both makes one person of them."""
    old = await story.register(OLD_PHONE)
    new = await story.register(NEW_PHONE)
    assert await story.person(old.account_id) != await story.person(new.account_id)

    linked = await story.link(NEW_PHONE, OLD_PHONE)

    assert not linked.refusal
    assert await story.person(new.account_id) == await story.person(old.account_id)
    assert await story.counts_with(new.account_id) == {old.account_id, new.account_id}
    await story.live(hours=1)
    assert story.told(OLD_PHONE) == story.told(NEW_PHONE) == ["Your accounts are joined"]


async def test_a_dead_phone_is_no_dead_end(story: Story) -> None:
    """Anna's old phone is gone, and with it every login: her name, a day and a word are enough."""
    old = await story.register(OLD_PHONE)
    await story.bind(old.account_id, NUMBER)
    await story.live(days=200)
    new = await story.register(NEW_PHONE)

    answer = await story.bind(new.account_id, NUMBER)
    assert answer.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert [hint.masked for hint in answer.hints] == ["+49*****678"]
    assert open_exits(answer) == {"LINK_BY_LOGIN", "CLAIM", "SUPPORT"}

    dead = answer.hints[0].identifier_id
    opened = await story.claim(new.account_id, NUMBER, [dead])
    assert opened.told_count == 1
    assert (await story.confirm(opened)).refusal == pb.REFUSAL_WAITING
    await story.live(hours=24)
    assert story.told(OLD_PHONE) == ["Somebody claims your account"]
    assert story.told(NEW_PHONE) == ["Your claim is approved"]
    done = await story.confirm(opened)

    assert not done.refusal
    assert await story.person(new.account_id) == await story.person(old.account_id)
    assert (await story.log_in(OLD_PHONE)).refusal == pb.REFUSAL_UNKNOWN_IDENTIFIER
    assert not (await story.log_in(NEW_PHONE)).refusal


async def test_whatever_is_refused_names_a_way_that_is_open(story: Story) -> None:
    """Anna takes three claims back: the next is a month away, and support is open all the time."""
    old = await story.register(OLD_PHONE)
    await story.bind(old.account_id, NUMBER)
    new = await story.register(NEW_PHONE)
    for _ in range(3):
        assert open_exits(await story.bind(new.account_id, NUMBER)) >= {"CLAIM", "SUPPORT"}
        opened = await story.claim(new.account_id, NUMBER)
        request = pb.CancelClaimRequest(
            request_id=story.request_id(),
            claim_id=opened.claim.claim_id,
            proof=await story.proof(NEW_PHONE),
        )
        assert not (await story.calls.CancelClaim(request, None)).refusal

    refused = await story.claim(new.account_id, NUMBER)
    answer = await story.bind(new.account_id, NUMBER)

    assert refused.refusal == pb.REFUSAL_TOO_MANY_CLAIMS
    assert open_exits(answer) == {"LINK_BY_LOGIN", "SUPPORT"}
    exits = {each.kind: each for each in answer.exits}
    assert exits[person_pb2.EXIT_KIND_CLAIM].open_time == refused.come_back_time
    await story.live(days=30)
    assert not (await story.claim(new.account_id, NUMBER)).refusal


async def test_support_can_always_let_somebody_out(story: Story) -> None:
    """Anna stands in the shop with her passport: support cuts the wait short."""
    old = await story.register(OLD_PHONE)
    await story.bind(old.account_id, NUMBER)
    new = await story.register(NEW_PHONE)
    await story.bind(new.account_id, NUMBER)
    opened = await story.claim(new.account_id, NUMBER)

    await story.approve(opened)
    done = await story.confirm(opened)

    assert not done.refusal
    assert await story.person(new.account_id) == await story.person(old.account_id)


async def test_who_registered_by_mail_and_uses_a_phone_now_is_one_human(story: Story) -> None:
    """Anna registered by mail and now by phone: her mail still works, and that is proof enough."""
    by_mail = await story.register(MAIL)
    by_phone = await story.register(NEW_PHONE)

    linked = await story.link(NEW_PHONE, MAIL)

    assert not linked.refusal
    assert await story.person(by_phone.account_id) == await story.person(by_mail.account_id)


async def test_who_lost_the_mailbox_too_is_found_by_name(story: Story) -> None:
    """Anna's mailbox is closed: her name finds her, limits count at once, a claim does the rest."""
    by_mail = await story.register(MAIL)
    await story.bind(by_mail.account_id, NUMBER)
    await story.live(days=90)
    by_phone = await story.register(NEW_PHONE)

    answer = await story.bind(by_phone.account_id, NUMBER)
    assert [hint.masked for hint in answer.hints] == ["a*****@e*****.org"]
    counted = {by_mail.account_id, by_phone.account_id}
    assert await story.counts_with(by_phone.account_id) == counted
    opened = await story.claim(by_phone.account_id, NUMBER)
    await story.live(hours=24)

    assert not (await story.confirm(opened)).refusal
    assert await story.counts_with(by_phone.account_id) == counted


async def test_a_claim_on_somebody_else_is_stopped_by_them(story: Story) -> None:
    """Mallory has Anna's papers, Anna has her phone: she is told and objects; nothing changed."""
    anna = await story.register(OLD_PHONE)
    await story.bind(anna.account_id, NUMBER)
    mallory = await story.register(NEW_PHONE)
    await story.bind(mallory.account_id, NUMBER)
    opened = await story.claim(mallory.account_id, NUMBER)
    await story.live(hours=1)
    assert story.told(OLD_PHONE) == ["Somebody claims your account"]

    stopped = await story.object_to(opened, OLD_PHONE)

    assert stopped.claim.state == person_pb2.CLAIM_STATE_CANCELLED
    assert await story.state(mallory.account_id) == "LOCKED"
    assert await story.state(anna.account_id) == "ACTIVE"
    assert await story.person(mallory.account_id) != await story.person(anna.account_id)
    await story.live(hours=24)
    assert (await story.confirm(opened)).refusal == pb.REFUSAL_WRONG_STATE
    await story.live(days=30)
    assert await story.state(mallory.account_id) == "ACTIVE"


async def test_an_owner_who_was_there_lately_has_three_days(story: Story) -> None:
    """Anna logged in a week ago and is on a trip: a day is not enough to take her person away."""
    anna = await story.register(OLD_PHONE)
    await story.bind(anna.account_id, NUMBER)
    await story.log_in(OLD_PHONE)
    await story.live(days=7)
    mallory = await story.register(NEW_PHONE)
    await story.bind(mallory.account_id, NUMBER)
    opened = await story.claim(mallory.account_id, NUMBER)

    await story.live(hours=71)
    early = await story.confirm(opened)
    stopped = await story.object_to(opened, OLD_PHONE)

    assert early.refusal == pb.REFUSAL_WAITING
    assert not stopped.refusal


async def test_a_rejected_claim_keeps_the_limit(story: Story) -> None:
    """Support says no; the name is still the same, so no second unit comes of it."""
    anna = await story.register(OLD_PHONE)
    await story.bind(anna.account_id, NUMBER)
    other = await story.register(NEW_PHONE)
    await story.bind(other.account_id, NUMBER)
    opened = await story.claim(other.account_id, NUMBER)

    rejected = await story.reject(opened)

    assert rejected.claim.state == person_pb2.CLAIM_STATE_REJECTED
    counted = {anna.account_id, other.account_id}
    assert await story.counts_with(other.account_id) == counted
    await story.bind(other.account_id, "M22Y11U58")
    assert await story.counts_with(other.account_id) == {other.account_id}


async def test_a_wrong_merge_is_undone(story: Story) -> None:
    """A claim joined two humans; within 30 days everybody gets back what was theirs."""
    anna = await story.register(OLD_PHONE)
    await story.bind(anna.account_id, NUMBER)
    person_id = await story.person(anna.account_id)
    dead = await story.identifier_id(anna.account_id)
    bert = await story.register(NEW_PHONE)
    await story.bind(bert.account_id, NUMBER)
    opened = await story.claim(bert.account_id, NUMBER, [dead])
    await story.live(hours=24)
    done = await story.confirm(opened)
    assert await story.person(bert.account_id) == person_id
    await story.live(days=29)

    undone = await story.reverse(done.merge.merge_id)

    assert list(undone.account_ids) == [bert.account_id]
    assert await story.person(anna.account_id) == person_id
    assert await story.person(bert.account_id) != person_id
    assert await story.counts_with(bert.account_id) == {bert.account_id}
    assert not (await story.log_in(OLD_PHONE)).refusal
    assert story.ledger.calls[-1][0] == "split"


async def test_a_merge_of_a_month_ago_stays(story: Story) -> None:
    """After 30 days it is final; whoever asks then is told so."""
    await story.register(OLD_PHONE)
    await story.register(NEW_PHONE)
    linked = await story.link(NEW_PHONE, OLD_PHONE)
    await story.live(days=30)

    assert (await story.reverse(linked.merge.merge_id)).refusal == pb.REFUSAL_TOO_LATE


async def test_a_shared_phone_makes_no_one_human(story: Story) -> None:
    """Anna and Bert share a phone number's account; Bert's own name is on his own account."""
    shared = await story.register(OLD_PHONE)
    await story.bind(shared.account_id, NUMBER)
    bert = await story.register(email("bert@example.org"))
    await story.bind(bert.account_id, "M22Y11U58")

    linked = await story.link(email("bert@example.org"), OLD_PHONE)

    assert linked.refusal == pb.REFUSAL_DIFFERENT_VERIFIED_PERSONS
    assert await story.counts_with(bert.account_id) == {bert.account_id}


async def test_support_can_tell_what_happened(story: Story) -> None:
    """Anna calls and asks why: every step is there with its time, and nothing in plain text."""
    old = await story.register(OLD_PHONE)
    await story.bind(old.account_id, NUMBER)
    new = await story.register(NEW_PHONE)
    await story.bind(new.account_id, NUMBER)
    opened = await story.claim(new.account_id, NUMBER)
    await story.live(hours=24)
    await story.confirm(opened)

    person_id = await story.person(new.account_id)
    request = pb.ExplainPersonRequest(person_id=person_id)
    explained = await story.calls.ExplainPerson(request, None)
    shown = await story.calls.GetPerson(pb.GetPersonRequest(person_id=person_id), None)

    events = [each.event for each in explained.transitions]
    steps = ["VERIFY", "MATCH", "OPEN", "TELL", "WAIT_OVER", "CONFIRM"]
    assert [event for event in events if event in steps] == steps
    times = [each.time.ToMilliseconds() for each in explained.transitions]
    assert times == sorted(times)
    for text in (str(explained), str(shown)):
        assert OLD_PHONE.phone not in text
        assert NUMBER not in text
