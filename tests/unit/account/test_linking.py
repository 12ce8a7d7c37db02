"""Joining accounts by logging in to both, and undoing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.account.merging import PARTS_MAX
from lastunit.account.person_events import Kind
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.errors import UnavailableError

from .world import DAY_MS

if TYPE_CHECKING:
    from .world import World


async def test_a_login_to_both_joins_them(world: World) -> None:
    """The first account's person becomes a part of the second's; home persons stay."""
    source = await world.sign_up("anna@example.org")
    target = await world.sign_up("anna.two@example.org")
    home = world.home(source)
    linked = await world.link(source, target)

    assert linked.refusal == pb.REFUSAL_UNSPECIFIED
    assert world.person(source) == world.person(target) == linked.person_id
    assert world.home(source) == home
    assert world.counted_with(source) == {world.home(source), world.home(target)}
    assert [event.account_ids for event in world.events()] == [(source,)]
    assert [told.kind for told in world.notices.told] == ["ACCOUNTS_LINKED"]


async def test_the_person_with_a_real_name_stays(world: World) -> None:
    """Whichever account was named first, nobody with a real name becomes a part of another."""
    named = await world.sign_up("anna@example.org")
    other = await world.sign_up("anna.two@example.org")
    await world.bind(named, "AB123456")
    person_id = world.person(named)
    linked = await world.link(named, other)

    assert linked.person_id == person_id == world.person(other)


async def test_two_real_names_are_two_humans(world: World) -> None:
    """Accounts of two verified persons are never joined, and the dry run says so."""
    one = await world.sign_up("anna@example.org")
    other = await world.sign_up("bert@example.org")
    await world.bind(one, "AB123456")
    await world.bind(other, "CD987654")
    linked = await world.link(one, other)
    dry = await world.linking.CanLink(
        pb.CanLinkRequest(source_account_id=one, target_account_id=other), None
    )

    assert linked.refusal == dry.refusal == pb.REFUSAL_DIFFERENT_VERIFIED_PERSONS
    assert {hint.masked for hint in dry.hints} == {"a*****@e*****.org", "b*****@e*****.org"}
    assert world.person(one) != world.person(other)


async def test_a_dry_run_changes_nothing(world: World) -> None:
    """CanLink names who would become a part of whom."""
    one = await world.sign_up("anna@example.org")
    other = await world.sign_up("anna.two@example.org")
    request = pb.CanLinkRequest(source_account_id=one, target_account_id=other)
    dry = await world.linking.CanLink(request, None)

    assert (dry.source_person_id, dry.target_person_id) == (world.person(one), world.person(other))
    assert world.person(one) != world.person(other)
    assert not world.events()


async def test_one_person_already_is_no_merge(world: World) -> None:
    """Joining what is joined answers the person and makes nothing."""
    one = await world.sign_up("anna@example.org")
    other = await world.sign_up("anna.two@example.org")
    await world.link(one, other)
    again = await world.link(other, one)

    assert again.person_id == world.person(one)
    assert not again.HasField("merge")
    assert len(world.events()) == 1


async def test_a_bad_proof_joins_nothing(world: World) -> None:
    """Both accounts must be proved."""
    one = await world.sign_up("anna@example.org")
    request = pb.LinkByLoginRequest(
        request_id="q-1",
        source_proof=world.proof(one),
        target_proof=pb.Proof(session_token="guessed"),
    )
    refused = await world.linking.LinkByLogin(request, None)

    assert refused.refusal == pb.REFUSAL_PROOF_BAD


async def test_nobody_is_told_of_a_merge_before_the_ledger(world: World) -> None:
    """While the ledger is away the call fails; its repeat gets the answer of the one merge."""
    one = await world.sign_up("anna@example.org")
    other = await world.sign_up("anna.two@example.org")
    world.ledger.is_away = True
    with pytest.raises(UnavailableError):
        await world.link(one, other, request_id="q-1")
    world.ledger.is_away = False
    linked = await world.link(one, other, request_id="q-1")

    assert linked.replayed
    assert linked.merge.state == person_pb2.MERGE_STATE_EXECUTED
    assert len(world.ledger.calls) == 1


async def test_chains_stay_one_step_long(world: World) -> None:
    """When a person with parts becomes a part, its parts name the new live person."""
    accounts = [await world.sign_up(f"anna{index}@example.org") for index in range(4)]
    for source, target in ((0, 1), (1, 2), (2, 3)):
        await world.link(accounts[source], accounts[target])

    assert {world.person(each) for each in accounts} == {world.home(accounts[3])}


async def test_a_reversed_merge_takes_its_own_parts_back(world: World) -> None:
    """What had joined before the merge goes with its person; what joined the other one stays."""
    a, b, c, d = [await world.sign_up(f"anna{index}@example.org") for index in range(4)]
    await world.link(a, b)
    merge_id = (await world.link(b, c)).merge.merge_id
    await world.link(d, c)
    answer = await world.reverse(merge_id)

    assert list(answer.account_ids) == sorted([a, b])
    assert world.person(a) == world.person(b) == world.home(b)
    assert world.person(c) == world.person(d) == world.home(c)
    assert world.counted_with(a) == {world.home(a), world.home(b)}
    assert answer.merge.state == person_pb2.MERGE_STATE_REVERSED
    assert world.events()[-1].kind is Kind.PERSONS_SPLIT


async def test_merges_can_be_reversed_in_any_order(world: World) -> None:
    """Reversing the inner merge first leaves the outer one to be reversed by itself."""
    a, b, c = [await world.sign_up(f"anna{index}@example.org") for index in range(3)]
    inner = (await world.link(a, b)).merge.merge_id
    outer = (await world.link(b, c)).merge.merge_id
    await world.reverse(inner)
    between = (world.person(a), world.person(b))
    await world.reverse(outer)

    assert between == (world.home(a), world.home(c))
    assert [world.person(each) for each in (a, b, c)] == [world.home(each) for each in (a, b, c)]


async def test_a_merge_is_final_after_thirty_days(world: World) -> None:
    """A moment before it can be reversed, at that time it cannot."""
    a, b, c = [await world.sign_up(f"anna{index}@example.org") for index in range(3)]
    early = (await world.link(a, b)).merge.merge_id
    late = (await world.link(c, b)).merge.merge_id
    world.clock.advance_to(world.clock.now_ms() + 30 * DAY_MS - 1)
    reversed_early = await world.reverse(early)
    world.clock.advance_to(world.clock.now_ms() + 1)
    unaged = await world.reverse(late)
    await world.pass_time(0)
    aged = await world.reverse(late)

    assert reversed_early.refusal == pb.REFUSAL_UNSPECIFIED
    assert unaged.refusal == aged.refusal == pb.REFUSAL_TOO_LATE
    assert aged.merge.state == person_pb2.MERGE_STATE_FINAL


async def test_a_second_reversal_is_refused(world: World) -> None:
    """It is undone already; the repeat of the first call gets its answer."""
    a, b = [await world.sign_up(f"anna{index}@example.org") for index in range(2)]
    merge_id = (await world.link(a, b)).merge.merge_id
    await world.reverse(merge_id, request_id="q-1")
    repeat = await world.reverse(merge_id, request_id="q-1")
    other = await world.reverse(merge_id)
    unknown = await world.reverse("m-none")

    assert repeat.replayed
    assert other.refusal == pb.REFUSAL_WRONG_STATE
    assert unknown.refusal == pb.REFUSAL_UNKNOWN_MERGE


async def test_only_whoever_is_concerned_reverses_by_login(world: World) -> None:
    """An account of either person may; a stranger's proof is bad."""
    a, b, stranger = [await world.sign_up(f"anna{index}@example.org") for index in range(3)]
    merge_id = (await world.link(a, b)).merge.merge_id

    def request(account_id: str) -> pb.ReverseMergeRequest:
        return pb.ReverseMergeRequest(
            request_id=world.request_id(),
            merge_id=merge_id,
            actor="owner",
            reason="not me",
            proof=world.proof(account_id),
        )

    assert (
        await world.reversing.ReverseMerge(request(stranger), None)
    ).refusal == pb.REFUSAL_PROOF_BAD
    assert (await world.reversing.ReverseMerge(request(a), None)).refusal == (
        pb.REFUSAL_UNSPECIFIED
    )


@pytest.mark.one_database
async def test_a_person_has_64_parts_and_not_one_more(world: World) -> None:
    """What the ledger takes apart in one command is the bound of a tree."""
    target = await world.sign_up("anna@example.org")
    for index in range(PARTS_MAX - 1):
        linked = await world.link(await world.sign_up(f"anna{index}@example.org"), target)
        assert not linked.refusal
    one_more = await world.link(await world.sign_up("one.more@example.org"), target)

    assert one_more.refusal == pb.REFUSAL_TOO_MANY_PARTS
    assert len(world.counted_with(target)) == PARTS_MAX


async def test_who_counts_together_all_the_same_is_still_told_apart(world: World) -> None:
    """A reversed merge changes the live person even if a real name keeps the limit shared."""
    named, a, b = [await world.sign_up(f"anna{index}@example.org") for index in range(3)]
    await world.bind(named, "AB123456")
    await world.bind(a, "AB123456")
    await world.bind(b, "AB123456")
    merge_id = (await world.link(a, b)).merge.merge_id
    version = world.directory.resolve([a])[0].version
    await world.reverse(merge_id)
    event = world.events()[-1]

    assert (event.kind, event.person_ids, event.account_ids) == (Kind.PERSONS_SPLIT, (), (a,))
    assert world.person(a) == world.home(a)
    assert world.directory.resolve([a])[0].version == version + 1
    assert world.counted_with(a) == {world.home(each) for each in (named, a, b)}
