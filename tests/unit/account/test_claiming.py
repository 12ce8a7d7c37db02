"""Claims: the way out for a human whose old logins are dead, and what its owner can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.account.metrics import AccountMetrics
from lastunit.account.person_events import Kind
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.errors import UnavailableError

from .world import DAY_MS, HOUR_MS

if TYPE_CHECKING:
    from .world import World

NUMBER = "AB123456"


async def dead_lock(world: World) -> tuple[str, str]:
    """Returns an old account with the real name, and a new one that met it."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, NUMBER)
    await world.bind(new, NUMBER)
    return old, new


async def test_a_claim_waits_a_day_and_is_confirmed(world: World) -> None:
    """After 24 h without a word the claimant confirms, and both accounts are one person's."""
    old, new = await dead_lock(world)
    dead = world.identifier_id(old)
    opened = await world.claim(new, NUMBER, dead_identifier_ids=[dead])
    early = await world.confirm(opened.claim.claim_id, opened.claim_token)
    await world.pass_time(24 * HOUR_MS)
    state = await world.claim_state(opened.claim.claim_id)
    done = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert opened.told_count == 1
    assert early.refusal == pb.REFUSAL_WAITING
    assert early.come_back_time == opened.claim.wait_until_time
    assert state == "APPROVED"
    assert done.refusal == pb.REFUSAL_UNSPECIFIED
    assert world.person(new) == world.person(old)
    shown = await world.show(old)
    released = {each.identifier_id: each.state for each in shown.identifiers}
    assert released[dead] == person_pb2.IDENTIFIER_STATE_RELEASED
    assert done.merge.claim_id == opened.claim.claim_id


async def test_an_owner_who_logged_in_lately_has_three_days(world: World) -> None:
    """Within 30 days of a login the wait is 72 h, from the 30th on it is 24 h."""
    old, new = await dead_lock(world)
    await world.log_in(old)
    await world.pass_time(30 * DAY_MS - 1)
    first = await world.claim(new, NUMBER)
    await world.cancel(first.claim.claim_id, new)
    await world.pass_time(1)
    second = await world.claim(new, NUMBER)

    waits = [
        each.claim.wait_until_time.ToMilliseconds() - each.claim.create_time.ToMilliseconds()
        for each in (first, second)
    ]
    assert waits == [72 * HOUR_MS, 24 * HOUR_MS]


async def test_the_owner_stops_a_claim_and_the_claimant_is_locked(world: World) -> None:
    """Whoever can still log in wins; the account that claimed is locked for 30 days."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    stopped = await world.cancel(opened.claim.claim_id, old)
    locked = world.directory.account(new)
    await world.pass_time(30 * DAY_MS)
    unlocked = world.directory.account(new)

    assert stopped.claim.state == person_pb2.CLAIM_STATE_CANCELLED
    assert locked is not None
    assert locked.state == pb.ACCOUNT_STATE_LOCKED
    assert locked.lock_reason == pb.LOCK_REASON_CLAIM
    assert unlocked is not None
    assert unlocked.state == pb.ACCOUNT_STATE_ACTIVE
    assert world.person(new) != world.person(old)
    kinds = [event.kind for event in world.events()]
    assert kinds[-2:] == [Kind.ACCOUNT_LOCKED, Kind.ACCOUNT_UNLOCKED]
    assert world.claiming.disputed_count == 1


async def test_the_owner_stops_a_claim_after_the_wait_too(world: World) -> None:
    """An approved claim is not done yet; the owner who comes back then is heard."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    await world.pass_time(24 * HOUR_MS)
    await world.cancel(opened.claim.claim_id, old)
    late = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert late.refusal == pb.REFUSAL_WRONG_STATE
    assert world.person(new) != world.person(old)


async def test_the_claimant_takes_a_claim_back_without_a_lock(world: World) -> None:
    """Who claims may think better of it."""
    _, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    stopped = await world.cancel(opened.claim.claim_id, new)
    account = world.directory.account(new)

    assert stopped.claim.state == person_pb2.CLAIM_STATE_CANCELLED
    assert account is not None
    assert account.state == pb.ACCOUNT_STATE_ACTIVE


async def test_a_stranger_stops_nothing(world: World) -> None:
    """A proof of an account of neither person is bad."""
    _, new = await dead_lock(world)
    stranger = await world.sign_up("stranger@example.org")
    opened = await world.claim(new, NUMBER)

    refused = await world.cancel(opened.claim.claim_id, stranger)
    assert refused.refusal == pb.REFUSAL_PROOF_BAD
    assert await world.claim_state(opened.claim.claim_id) == "WAITING"


async def test_a_claim_that_nobody_confirms_expires(world: World) -> None:
    """24 h after the approval it is too late, whether or not the loop came by."""
    _, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    await world.pass_time(24 * HOUR_MS)
    world.clock.advance_to(world.clock.now_ms() + 24 * HOUR_MS)
    late = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert late.refusal == pb.REFUSAL_TOO_LATE
    assert await world.claim_state(opened.claim.claim_id) == "EXPIRED"


async def test_support_rejects_and_the_union_stays(world: World) -> None:
    """Both go on counting as one: the real name is still the same."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    rejected = await world.reject(opened.claim.claim_id)
    again = await world.reject(opened.claim.claim_id)

    assert rejected.claim.state == person_pb2.CLAIM_STATE_REJECTED
    assert again.refusal == pb.REFUSAL_WRONG_STATE
    assert world.counted_with(new) == {world.home(new), world.home(old)}


async def test_support_approves_before_the_wait_is_over(world: World) -> None:
    """The way through support leads to the same end."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    approved = await world.approve(opened.claim.claim_id)
    done = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert approved.claim.state == person_pb2.CLAIM_STATE_APPROVED
    assert done.claim.state == person_pb2.CLAIM_STATE_EXECUTED
    assert world.person(new) == world.person(old)


async def test_without_a_match_there_is_nothing_to_claim(world: World) -> None:
    """A claim needs a real name that was found to be another person's."""
    account_id = await world.sign_up("anna@example.org")
    other = await world.sign_up("bert@example.org")
    await world.bind(other, "CD987654")
    unknown_name = await world.claim(account_id, NUMBER)
    unmatched = await world.claim(account_id, "CD987654")

    assert unknown_name.refusal == unmatched.refusal == pb.REFUSAL_NOTHING_TO_CLAIM


async def test_the_strong_check_can_say_no(world: World) -> None:
    """A name that the plain check takes may fail the strong one."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, "AB123459")
    await world.bind(new, "AB123459")

    assert (await world.claim(new, "AB123459")).refusal == pb.REFUSAL_CHECK_FAILED


async def test_three_claims_in_thirty_days_are_enough(world: World) -> None:
    """The fourth is refused, with the time from which another may be opened."""
    _, new = await dead_lock(world)
    first = await world.claim(new, NUMBER)
    await world.cancel(first.claim.claim_id, new)
    for _ in range(2):
        opened = await world.claim(new, NUMBER)
        await world.cancel(opened.claim.claim_id, new)
    fourth = await world.claim(new, NUMBER)
    bound = await world.bind(new, NUMBER)
    await world.pass_time(30 * DAY_MS)
    later = await world.claim(new, NUMBER)

    assert fourth.refusal == pb.REFUSAL_TOO_MANY_CLAIMS
    expected_ms = first.claim.create_time.ToMilliseconds() + 30 * DAY_MS
    assert fourth.come_back_time.ToMilliseconds() == expected_ms
    exits = {each.kind: each for each in bound.exits}
    assert not exits[person_pb2.EXIT_KIND_CLAIM].is_open
    assert exits[person_pb2.EXIT_KIND_CLAIM].open_time.ToMilliseconds() == expected_ms
    assert exits[person_pb2.EXIT_KIND_SUPPORT].is_open
    assert later.refusal == pb.REFUSAL_UNSPECIFIED


async def test_one_claim_on_a_person_at_a_time(world: World) -> None:
    """A second claimant is told when the first claim is decided at the latest."""
    _, new = await dead_lock(world)
    third = await world.sign_up("third@example.org")
    await world.bind(third, NUMBER)
    await world.claim(new, NUMBER)
    second = await world.claim(third, NUMBER)
    await world.pass_time(48 * HOUR_MS)
    after = await world.claim(third, NUMBER)

    assert second.refusal == pb.REFUSAL_CLAIM_OPEN
    assert second.come_back_time.ToMilliseconds() <= world.clock.now_ms()
    assert after.refusal == pb.REFUSAL_UNSPECIFIED


async def test_only_identifiers_of_the_claimed_person_are_called_dead(world: World) -> None:
    """Nobody takes a login from a third one with a claim."""
    _, new = await dead_lock(world)
    stranger = await world.sign_up("stranger@example.org")
    refused = await world.claim(new, NUMBER, dead_identifier_ids=[world.identifier_id(stranger)])

    assert refused.refusal == pb.REFUSAL_UNKNOWN_IDENTIFIER


async def test_a_wrong_token_confirms_nothing(world: World) -> None:
    """Only who opened the claim has the token, and it is stored nowhere."""
    _, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER, request_id="q-1")
    repeat = await world.claim(new, NUMBER, request_id="q-1")
    await world.pass_time(24 * HOUR_MS)
    refused = await world.confirm(opened.claim.claim_id, "0" * 64)

    assert refused.refusal == pb.REFUSAL_PROOF_BAD
    assert repeat.replayed
    assert repeat.claim_token == opened.claim_token


async def test_a_confirmed_claim_is_not_told_before_the_ledger(world: World) -> None:
    """While the ledger is away the confirmation fails; its repeat gets the one merge."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    await world.pass_time(24 * HOUR_MS)
    world.ledger.is_away = True
    with pytest.raises(UnavailableError):
        await world.confirm(opened.claim.claim_id, opened.claim_token, request_id="q-1")
    world.ledger.is_away = False
    done = await world.confirm(opened.claim.claim_id, opened.claim_token, request_id="q-1")

    assert done.replayed
    assert world.person(new) == world.person(old)


async def test_a_reversed_claim_gives_the_dead_identifier_back(world: World) -> None:
    """Accounts go back, identifiers lead where they led, and both count apart."""
    old, new = await dead_lock(world)
    dead = world.identifier_id(old)
    opened = await world.claim(new, NUMBER, dead_identifier_ids=[dead])
    await world.pass_time(24 * HOUR_MS)
    merge_id = (await world.confirm(opened.claim.claim_id, opened.claim_token)).merge.merge_id
    await world.reverse(merge_id)

    assert await world.claim_state(opened.claim.claim_id) == "REVERSED"
    assert world.person(new) == world.home(new)
    assert world.counted_with(new) == {world.home(new)}
    shown = await world.show(old)
    assert [each.state for each in shown.identifiers if each.identifier_id == dead] == [
        person_pb2.IDENTIFIER_STATE_VERIFIED
    ]


async def test_a_claim_is_final_after_thirty_days(world: World) -> None:
    """Then neither the claim nor its merge moves again."""
    _, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    await world.pass_time(24 * HOUR_MS)
    merge_id = (await world.confirm(opened.claim.claim_id, opened.claim_token)).merge.merge_id
    await world.pass_time(30 * DAY_MS)

    assert await world.claim_state(opened.claim.claim_id) == "FINAL"
    assert (await world.reverse(merge_id)).refusal == pb.REFUSAL_TOO_LATE


async def test_support_sees_and_explains_the_whole_story(world: World) -> None:
    """One list has every move of persons, accounts, identifiers, unions, claims and merges."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    await world.pass_time(24 * HOUR_MS)
    await world.confirm(opened.claim.claim_id, opened.claim_token)
    request = pb.ExplainPersonRequest(person_id=world.home(new))
    explained = await world.showing.ExplainPerson(request, None)
    listed = await world.showing.ListClaims(
        pb.ListClaimsRequest(state=person_pb2.CLAIM_STATE_EXECUTED, page_size=1), None
    )

    moves = [(each.entity, each.event) for each in explained.transitions]
    kind = person_pb2.EntityKind
    for expected in (
        (kind.ENTITY_KIND_PERSON, "VERIFY"),
        (kind.ENTITY_KIND_UNION, "MATCH"),
        (kind.ENTITY_KIND_CLAIM, "OPEN"),
        (kind.ENTITY_KIND_CLAIM, "WAIT_OVER"),
        (kind.ENTITY_KIND_CLAIM, "CONFIRM"),
        (kind.ENTITY_KIND_PERSON, "MERGE"),
        (kind.ENTITY_KIND_UNION, "END"),
    ):
        assert expected in moves
    assert [each.claim_id for each in listed.claims] == [opened.claim.claim_id]
    assert listed.next_page_token == ""
    assert (await world.show(new)).person.person_id == world.home(old)


async def test_who_shows_another_name_meanwhile_carries_no_claim_out(world: World) -> None:
    """A claim stands on the name that met; with another one there is nothing to stand on."""
    old, new = await dead_lock(world)
    bert = await world.sign_up("bert@example.org")
    await world.bind(bert, "CD987654")
    opened = await world.claim(new, NUMBER)
    await world.bind(new, "CD987654")
    await world.pass_time(24 * HOUR_MS)
    refused = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert refused.refusal == pb.REFUSAL_WRONG_STATE
    assert world.person(new) != world.person(old)


async def test_nobody_claims_themselves(world: World) -> None:
    """The owner of the name has nothing to claim, nor has who became a part of them meanwhile."""
    old, new = await dead_lock(world)
    own = await world.claim(old, NUMBER)
    third = await world.sign_up("third@example.org")
    opened = await world.claim(new, NUMBER)
    await world.bind(third, NUMBER)
    await world.link(new, old)
    await world.pass_time(24 * HOUR_MS)
    late = await world.confirm(opened.claim.claim_id, opened.claim_token)

    assert own.refusal == pb.REFUSAL_NOTHING_TO_CLAIM
    assert late.refusal == pb.REFUSAL_WRONG_STATE


async def test_claims_are_counted_by_how_far_they_are(world: World) -> None:
    """An operator sees what waits, and how often an owner objected."""
    old, new = await dead_lock(world)
    opened = await world.claim(new, NUMBER)
    waiting = claims_shown(world)
    await world.cancel(opened.claim.claim_id, old)
    stopped = claims_shown(world)

    assert (waiting["WAITING"], waiting["CANCELLED"], waiting["disputed"]) == (1, 0, 0)
    assert (stopped["WAITING"], stopped["CANCELLED"], stopped["disputed"]) == (0, 1, 1)


def claims_shown(world: World) -> dict[str, float]:
    """Returns what the metrics say of claims."""
    collector = AccountMetrics(
        database=world.database,
        directory=world.directory,
        feeder=world.feeder,
        buckets=[],
        disputed_count=lambda: world.claiming.disputed_count,
    )
    samples = [sample for family in collector.collect() for sample in family.samples]
    shown = {
        sample.labels["state"]: sample.value
        for sample in samples
        if sample.name == "lastunit_account_claims"
    }
    (disputed,) = (each for each in samples if each.name.endswith("disputed_claims_total"))
    return {**shown, "disputed": disputed.value}
