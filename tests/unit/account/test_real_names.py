"""Real names: one person for each, and both count as one when two accounts have the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lastunit.account import _tables, real_names
from lastunit.account.keys import Key, KeyRing
from lastunit.account.person_events import Kind
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.errors import UnavailableError

if TYPE_CHECKING:
    from .world import World


async def test_a_new_name_verifies_the_person(world: World) -> None:
    """A name that is nobody's is the person's from then on, in any spelling of the number."""
    account_id = await world.sign_up("anna@example.org")
    first = await world.bind(account_id, "ab-123 456")
    again = await world.bind(account_id, "AB123456")

    assert first.refusal == again.refusal == pb.REFUSAL_UNSPECIFIED
    assert first.person_id == world.person(account_id)
    shown = await world.show(account_id)
    assert shown.person.state == person_pb2.PERSON_STATE_VERIFIED
    assert [event.kind for event in world.events()] == [Kind.PERSON_VERIFIED]


async def test_the_number_is_stored_as_a_fingerprint_only(world: World) -> None:
    """Neither number nor name is in any row of any table."""
    account_id = await world.sign_up("anna@example.org")
    await world.bind(account_id, "SECRET123456")

    with world.database.read() as connection:
        for table in _tables.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                assert "SECRET123456" not in str(row)
                assert "Anna Example" not in str(row)


async def test_a_name_that_the_checker_refuses_changes_nothing(world: World) -> None:
    """CHECK_FAILED leaves the person as it was, and may be asked again with the same id."""
    account_id = await world.sign_up("anna@example.org")
    refused = await world.bind(account_id, "AB1234560", request_id="q-check")
    taken = await world.bind(account_id, "AB1234561", request_id="q-check")

    assert refused.refusal == pb.REFUSAL_CHECK_FAILED
    assert taken.refusal == pb.REFUSAL_UNSPECIFIED


async def test_a_bound_name_unites_before_the_caller_is_told(world: World) -> None:
    """With the answer IDENTITY_BOUND the ledger counts both as one already."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, "AB123456")
    bound = await world.bind(new, "AB123456")

    assert bound.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert bound.is_quota_united
    assert world.counted_with(new) == {world.home(old), world.home(new)}
    assert world.person(new) != world.person(old)
    assert [hint.masked for hint in bound.hints] == ["a*****@e*****.org"]
    exits = {each.kind: each.is_open for each in bound.exits}
    assert exits == {
        person_pb2.EXIT_KIND_LINK_BY_LOGIN: True,
        person_pb2.EXIT_KIND_CLAIM: True,
        person_pb2.EXIT_KIND_SUPPORT: True,
    }


async def test_nobody_is_told_while_the_ledger_is_away(world: World) -> None:
    """The call fails until the ledger has the union; its repeat finishes it, once."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, "AB123456")
    world.ledger.is_away = True
    for _ in range(2):
        with pytest.raises(UnavailableError, match="repeat the call"):
            await world.bind(new, "AB123456", request_id="q-bind")
    world.ledger.is_away = False
    bound = await world.bind(new, "AB123456", request_id="q-bind")

    assert bound.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert world.ledger.calls == [("unite", world.home(new), world.home(old))]


async def test_the_loop_finishes_what_a_dead_process_began(world: World) -> None:
    """A union that was stored before the process died reaches the ledger without its caller."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, "AB123456")
    world.ledger.is_away = True
    with pytest.raises(UnavailableError):
        await world.bind(new, "AB123456")
    world.start()
    world.ledger.is_away = False
    await world.feeder.feed_once()

    assert world.counted_with(new) == {world.home(old), world.home(new)}


async def test_another_name_ends_the_union(world: World) -> None:
    """Who proves a name of their own is somebody else, and counts apart from then on."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("bert@example.org")
    await world.bind(old, "AB123456")
    await world.bind(new, "AB123456")
    own = await world.bind(new, "CD987654")

    assert own.refusal == pb.REFUSAL_UNSPECIFIED
    assert world.counted_with(new) == {world.home(new)}
    shown = await world.show(new)
    assert [each.is_active for each in shown.unions] == [False]


async def test_a_second_name_is_refused(world: World) -> None:
    """A person that has a real name never gets another one."""
    account_id = await world.sign_up("anna@example.org")
    await world.bind(account_id, "AB123456")
    other = await world.bind(account_id, "CD987654")

    assert other.refusal == pb.REFUSAL_OTHER_REAL_NAME


async def test_a_third_account_with_the_name_counts_with_both(world: World) -> None:
    """Each account that matches the name joins the same group."""
    accounts = [await world.sign_up(f"anna{index}@example.org") for index in range(5)]
    for account_id in accounts:
        await world.bind(account_id, "AB123456")

    assert world.counted_with(accounts[0]) == {world.home(each) for each in accounts}


async def test_a_repeat_of_another_number_is_a_conflict(world: World) -> None:
    """The same id with other content names the field."""
    account_id = await world.sign_up("anna@example.org")
    await world.bind(account_id, "AB123456", request_id="q-1")
    repeat = await world.bind(account_id, "ab 123456", request_id="q-1")
    conflict = await world.bind(account_id, "CD987654", request_id="q-1")

    assert repeat.replayed
    assert conflict.refusal == pb.REFUSAL_CONFLICT
    assert conflict.conflict_field == "real_name.number"


async def test_an_unknown_account_is_refused(world: World) -> None:
    """There is nobody to bind a name to."""
    assert (await world.bind("a-none", "AB123456")).refusal == pb.REFUSAL_UNKNOWN_ACCOUNT


async def test_a_name_under_an_old_key_is_found_and_kept_under_the_new_one(world: World) -> None:
    """After a rotation the old fingerprint still belongs to its person."""
    old = await world.sign_up("anna@example.org")
    new = await world.sign_up("anna.new@example.org")
    await world.bind(old, "AB123456")
    world.ring = KeyRing([*world.ring.keys, Key(2, bytes(32))])
    world.start()
    bound = await world.bind(new, "AB123456")

    assert bound.refusal == pb.REFUSAL_IDENTITY_BOUND
    old_person, new_person = world.person(old), world.person(new)
    with world.database.read() as connection:
        versions = connection.scalars(sa.select(_tables.real_names.c.key_version)).all()
        real_name = pb.RealName(name="Anna", number="AB123456")
        assert real_names.is_of(connection, world.ring, old_person, real_name)
        assert not real_names.is_of(connection, world.ring, new_person, real_name)
    assert sorted(versions) == [1, 2]


async def test_a_second_match_takes_the_place_of_the_first(world: World) -> None:
    """Who shows another one's name counts with that one, and joins nobody to anybody."""
    anna, bert, other = [await world.sign_up(f"human{index}@example.org") for index in range(3)]
    await world.bind(anna, "AB123456")
    await world.bind(bert, "CD987654")
    await world.bind(other, "AB123456")
    bound = await world.bind(other, "CD987654")

    assert bound.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert world.counted_with(other) == {world.home(bert), world.home(other)}
    assert world.counted_with(anna) == {world.home(anna)}


async def test_who_joined_two_others_parts_them_again(world: World) -> None:
    """Two matched accounts that are joined by login join both owners, until they have a name."""
    anna, bert, one, two = [await world.sign_up(f"human{index}@example.org") for index in range(4)]
    await world.bind(anna, "AB123456")
    await world.bind(bert, "CD987654")
    await world.bind(one, "AB123456")
    await world.bind(two, "CD987654")
    await world.link(one, two)
    joined = world.counted_with(anna)
    await world.bind(one, "EF555556")

    assert joined == {world.home(each) for each in (anna, bert, one, two)}
    assert world.counted_with(anna) == {world.home(anna)}
    assert world.counted_with(bert) == {world.home(bert)}
    assert world.counted_with(one) == {world.home(one), world.home(two)}


async def test_a_login_to_somebody_with_a_name_ends_the_match(world: World) -> None:
    """Who becomes part of a person with a real name is that person, and nobody else."""
    anna, bert, other = [await world.sign_up(f"human{index}@example.org") for index in range(3)]
    await world.bind(anna, "AB123456")
    await world.bind(bert, "CD987654")
    await world.bind(other, "AB123456")
    await world.link(other, bert)

    assert world.counted_with(bert) == {world.home(bert), world.home(other)}
    assert world.counted_with(anna) == {world.home(anna)}
