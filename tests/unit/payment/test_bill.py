"""A provider's bill against the books: every difference is found once, to the unit of money."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client.outcomes import PaymentResult
from lastunit.payment.provider import BillLine, BillLineKind, CreateOrder
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.v1 import payment_service_pb2 as pb

from .world import AMOUNT_MINOR, START_MS, World

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_MS = 86_400_000
# The day in which every test begins.
DAY_BEGIN_MS = START_MS - START_MS % DAY_MS


async def pay(world: World, number: int) -> str:
    """Starts and pays the first attempt of an order; returns its id."""
    order = f"order-{number}"
    await world.start(f"{order}:1", order_id=order, reservation_id=order)
    world.sandbox.pay(f"{order}:1")
    await world.run_until(world.clock.now_ms() + 2_000)
    return f"{order}:1"


async def refund(world: World, attempt_id: str, amount_minor: int) -> str:
    """Gives a part back; returns the refund's id."""
    request = pb.RefundAttemptRequest(
        request_id=f"q-{attempt_id}", attempt_id=attempt_id, amount_minor=amount_minor, reason="x"
    )
    answer = await world.core.refund_attempt(request)
    await world.run_until(world.clock.now_ms() + 2_000)
    return answer.refund.refund_id


def lines_of(world: World) -> list[BillLine]:
    """Returns the provider's own bill of the day."""
    page = world.sandbox.bill_page(DAY_BEGIN_MS, DAY_BEGIN_MS + DAY_MS, cursor="", limit=500)
    return list(page.lines)


def request_of(import_id: str, **changes: Any) -> pb.ImportBillRequest:
    """Returns the request of the first page."""
    request = pb.ImportBillRequest(
        request_id=import_id, provider="sandbox", source=pb.BILL_SOURCE_PROVIDER, actor="ann"
    )
    request.day_time.FromMilliseconds(DAY_BEGIN_MS)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


async def carry_on(world: World, request: pb.ImportBillRequest) -> pb.ImportBillResponse:
    """Takes page after page; returns the last answer with all differences."""
    found: list[pb.Incident] = []
    while True:
        answer = await world.core.import_bill(request)
        assert not answer.refusal, answer
        found += answer.differences
        if answer.is_done:
            del answer.differences[:]
            answer.differences.extend(found)
            return answer
        request.page_number = answer.next_page_number


async def fetch(world: World, import_id: str = "b-1", **changes: Any) -> pb.ImportBillResponse:
    """Imports the day's bill from the provider."""
    return await carry_on(world, request_of(import_id, **changes))


async def give(
    world: World, lines: Sequence[BillLine], import_id: str = "b-1", **changes: Any
) -> pb.ImportBillResponse:
    """Imports lines that the test has written."""
    request = request_of(import_id, source=pb.BILL_SOURCE_LINES, is_last=True, **changes)
    for line in lines:
        added = request.lines.add(
            kind=pb.BillLineKind.Value(f"BILL_LINE_KIND_{line.kind}"),
            merchant_no=line.merchant_no,
            provider_no=line.provider_no,
            refund_key=line.refund_key,
            amount_minor=line.amount_minor,
            currency=line.currency,
        )
        added.occurred_time.FromMilliseconds(line.occurred_ms)
    return await carry_on(world, request)


def kinds(answer: pb.ImportBillResponse) -> list[str]:
    """Returns the kinds of the differences, sorted."""
    return sorted(
        pb.IncidentKind.Name(each.kind).removeprefix("INCIDENT_KIND_")
        for each in answer.differences
    )


async def test_books_and_bill_that_agree_show_no_difference(world: World) -> None:
    """Payments and a refund, to the unit of money, and nobody is bothered."""
    for number in range(3):
        await pay(world, number)
    await refund(world, "order-1:1", 4_000)
    answer = await fetch(world)
    (total,) = answer.sums

    assert (answer.line_count, answer.difference_count) == (4, 0)
    assert (total.billed_payment_count, total.billed_payment_minor) == (3, 3 * AMOUNT_MINOR)
    assert (total.booked_payment_count, total.booked_payment_minor) == (3, 3 * AMOUNT_MINOR)
    assert (total.billed_refund_minor, total.booked_refund_minor) == (4_000, 4_000)
    assert (await world.totals())["incident_open_count"] == 0


async def test_a_payment_that_nobody_has_told_of_is_settled_from_the_bill() -> None:
    """Callbacks lost and asking down: the bill tells, the ledger hears of it, and we see it."""
    outage = tuple(Outage(each, 10, DAY_MS) for each in (Operation.QUERY, Operation.CLOSE))
    world = World(SandboxKnobs(loss_probability=1, outages=outage))
    await world.start()
    world.clock.advance_to(START_MS + 100)
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 60_000)
    answer = await fetch(world)
    await world.work()

    assert kinds(answer) == ["PAID_UNHEARD"]
    assert world.results() == [PaymentResult.SUCCEEDED]
    world.close()


async def test_a_comparison_alone_settles_nothing() -> None:
    """With is_compare_only the difference is noted and the books stay as they are."""
    outage = tuple(Outage(each, 10, DAY_MS) for each in (Operation.QUERY, Operation.CLOSE))
    world = World(SandboxKnobs(loss_probability=1, outages=outage))
    await world.start()
    world.clock.advance_to(START_MS + 100)
    world.sandbox.pay("order-1:1")
    answer = await fetch(world, is_compare_only=True)
    await world.work()

    assert kinds(answer) == ["PAID_UNHEARD"]
    assert world.results() == []
    world.close()


async def test_a_line_of_a_stranger_is_an_unknown_attempt_that_can_be_refunded(
    world: World,
) -> None:
    """Money for a number nobody here has started; the decision sends it back."""
    world.sandbox.knobs = SandboxKnobs(loss_probability=1)
    world.sandbox.create(CreateOrder("stranger:1", "card", 500, "CNY"))
    world.sandbox.pay("stranger:1")
    answer = await fetch(world)
    request = pb.ResolveIncidentRequest(
        request_id="d-1",
        incident_id=answer.differences[0].incident_id,
        resolution=pb.INCIDENT_RESOLUTION_REFUND,
        actor="ann",
        reason="a test system",
    )
    decided = await world.core.resolve_incident(request)
    await world.run_until(START_MS + 10_000)

    assert kinds(answer) == ["UNKNOWN_ATTEMPT"]
    assert decided.refusal == pb.REFUSAL_UNSPECIFIED
    assert [row.refunded_minor for row in world.sandbox.bill()] == [500]


def _changed(lines: list[BillLine], index: int, **changes: Any) -> list[BillLine]:
    return [replace(each, **changes) if at == index else each for at, each in enumerate(lines)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("as it is", []),
        ("payment missing", ["MISSING_AT_PROVIDER"]),
        ("payment one minor unit less", ["PAID_DIFFERS"]),
        ("payment in another currency", ["PAID_DIFFERS"]),
        ("payment twice", ["BILLED_TWICE"]),
        ("refund missing", ["REFUND_MISSING_AT_PROVIDER"]),
        ("refund one minor unit more", ["REFUND_DIFFERS"]),
        ("refund twice", ["BILLED_TWICE"]),
        ("refund of nobody", ["REFUND_MISSING_AT_PROVIDER", "UNKNOWN_REFUND"]),
        ("refund told by the provider's number only", []),
        ("everything missing", ["MISSING_AT_PROVIDER"] * 2 + ["REFUND_MISSING_AT_PROVIDER"]),
    ],
)
async def test_each_difference_is_found_and_repeats_as_the_same_one(
    world: World, name: str, expected: list[str]
) -> None:
    """One changed line, one difference; imported again it is the same incident, seen twice."""
    await pay(world, 0)
    await pay(world, 1)
    await refund(world, "order-0:1", 4_000)
    lines = lines_of(world)
    at = next(at for at, each in enumerate(lines) if each.kind is BillLineKind.REFUND)
    given = {
        "as it is": lines,
        "payment missing": [each for each in lines if each.merchant_no != "order-1:1"],
        "payment one minor unit less": _changed(lines, 0, amount_minor=AMOUNT_MINOR - 1),
        "payment in another currency": _changed(lines, 0, currency="EUR"),
        "payment twice": [lines[0], *lines],
        "refund missing": [each for each in lines if each.kind is BillLineKind.PAYMENT],
        "refund one minor unit more": _changed(lines, at, amount_minor=4_001),
        "refund twice": [*lines, lines[at]],
        "refund of nobody": _changed(lines, at, refund_key="r-nobody"),
        "refund told by the provider's number only": _changed(lines, at, refund_key=""),
        "everything missing": [],
    }[name]
    first = await give(world, given)
    second = await give(world, given, "b-2")
    page = await world.core.list_incidents(pb.ListIncidentsRequest(page_size=100))

    assert kinds(first) == kinds(second) == expected
    assert len(page.incidents) == len(expected)
    assert {each.seen_count for each in page.incidents} <= {2}


async def test_what_a_later_bill_has_is_missed_no_more(world: World) -> None:
    """An incomplete bill opens an incident, the complete one ends it, and sums agree."""
    await pay(world, 0)
    missed = await give(world, [])
    found = await fetch(world, "b-2")
    page = await world.core.list_incidents(pb.ListIncidentsRequest(page_size=100))
    (total,) = found.sums

    assert (kinds(missed), kinds(found)) == (["MISSING_AT_PROVIDER"], [])
    assert [each.state for each in page.incidents] == [pb.INCIDENT_STATE_RESOLVED]
    assert total.billed_payment_minor == total.booked_payment_minor == AMOUNT_MINOR


async def test_what_happened_at_a_days_end_may_stand_in_the_next_bill() -> None:
    """Paid five minutes before midnight: missed by the next day's import, not by its own."""
    world = World()
    end_ms = DAY_BEGIN_MS + DAY_MS
    world.clock.advance_to(end_ms - 310_000)
    await world.start(settle_by_time=_stamp(end_ms + 600_000))
    world.sandbox.pay("order-1:1")
    await world.run_until(end_ms - 300_000)
    own = await give(world, [])
    following = request_of("b-2", source=pb.BILL_SOURCE_LINES, is_last=True)
    following.day_time.FromMilliseconds(end_ms)
    next_day = await carry_on(world, following)

    assert (kinds(own), kinds(next_day)) == ([], ["MISSING_AT_PROVIDER"])
    world.close()


def _stamp(time_ms: int) -> Any:
    return pb.StartAttemptRequest(settle_by_time={"seconds": time_ms // 1_000}).settle_by_time


async def test_a_refund_that_nobody_has_told_of_is_done_by_the_bill(world: World) -> None:
    """The provider did it and never answered: the bill's line makes it DONE."""
    await pay(world, 0)
    world.sandbox.knobs = SandboxKnobs(
        loss_probability=1, outages=(Outage(Operation.REFUND, 0, DAY_MS),)
    )
    refund_id = await refund(world, "order-0:1", 4_000)
    line = BillLine(
        BillLineKind.REFUND, "order-0:1", "r-77", 4_000, "CNY", START_MS, refund_key=refund_id
    )
    answer = await give(world, [*lines_of(world), line])
    (shown,) = (await world.core.list_refunds(pb.ListRefundsRequest(page_size=9))).refunds

    assert kinds(answer) == ["REFUND_UNHEARD"]
    assert (shown.state, shown.provider_refund_no) == (pb.REFUND_STATE_DONE, "r-77")


async def test_a_page_counts_once_and_its_answer_can_be_had_again(world: World) -> None:
    """The same page again gives the same differences; one further on is refused."""
    for number in range(3):
        await pay(world, number)
    request = request_of("b-1")
    first = await world.core.import_bill(request)
    again = await world.core.import_bill(request)
    request.page_number = 2
    skipped = await world.core.import_bill(request)

    assert (again.replayed, again.line_count) == (True, first.line_count)
    assert (skipped.refusal, skipped.next_page_number) == (pb.REFUSAL_WRONG_PAGE, 1)


@pytest.mark.parametrize("field", ["provider", "day_time", "source", "is_compare_only"])
async def test_an_import_with_other_content_is_a_conflict(world: World, field: str) -> None:
    """The id of an import stands for one bill of one day."""
    world.others.append(_second(world))
    world.core = world.new_core()
    await world.core.import_bill(request_of("b-1"))
    other = request_of("b-1", page_number=1)
    if field == "provider":
        other.provider = "second"
    elif field == "day_time":
        other.day_time.FromMilliseconds(DAY_BEGIN_MS + DAY_MS)
    elif field == "source":
        other.source = pb.BILL_SOURCE_LINES
    else:
        other.is_compare_only = True
    answer = await world.core.import_bill(other)

    assert (answer.refusal, answer.conflict_field) == (pb.REFUSAL_CONFLICT, field)


def _second(world: World) -> Any:
    from lastunit.payment.sandbox.in_process import InProcessProvider

    return InProcessProvider(world.sandbox, name="second")


async def test_a_provider_that_is_down_or_unknown_is_said(world: World) -> None:
    """Down: come back with the same page. Unknown: never."""
    world.sandbox.knobs = SandboxKnobs(outages=(Outage(Operation.BILL, 0, 60_000),))
    down = await world.core.import_bill(request_of("b-1"))
    unknown = await world.core.import_bill(request_of("b-2", provider="nobody"))
    await world.run_until(START_MS + 60_001)
    later = await world.core.import_bill(request_of("b-1"))

    assert [down.refusal, unknown.refusal] == [
        pb.REFUSAL_PROVIDER_DOWN,
        pb.REFUSAL_UNKNOWN_PROVIDER,
    ]
    assert later.refusal == pb.REFUSAL_UNSPECIFIED


async def test_a_long_bill_comes_in_pages_and_none_is_left_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With three lines a page, over a restart in the middle, sums are the whole bill's."""
    monkeypatch.setattr("lastunit.payment.bill_import.LINES_PER_PAGE_MAX", 3)
    for number in range(7):
        await pay(world, number)
    request = request_of("b-1")
    pages = 0
    while True:
        answer = await world.core.import_bill(request)
        pages += 1
        request.page_number = answer.next_page_number
        world.core = world.new_core()
        if answer.is_done:
            break

    assert pages == 3 + 2
    assert (answer.line_count, answer.sums[0].billed_payment_count) == (7, 7)


@pytest.mark.one_database
@pytest.mark.parametrize("seed", range(5))
async def test_random_faults_in_a_bill_are_found_exactly(world: World, seed: int) -> None:
    """Lines dropped, changed and doubled by chance: as many differences as faults, no more."""
    chance = random.Random(seed)
    for number in range(12):
        await pay(world, number)
        if chance.random() < 0.4:
            await refund(world, f"order-{number}:1", chance.randrange(1, 5_000))
    expected: list[str] = []
    given: list[BillLine] = []
    for line in lines_of(world):
        is_payment = line.kind is BillLineKind.PAYMENT
        fault = chance.choice(["none", "none", "drop", "amount", "twice"])
        if fault == "drop":
            expected.append("MISSING_AT_PROVIDER" if is_payment else "REFUND_MISSING_AT_PROVIDER")
            continue
        if fault == "amount":
            expected.append("PAID_DIFFERS" if is_payment else "REFUND_DIFFERS")
            given.append(replace(line, amount_minor=line.amount_minor + 1))
            continue
        given += [line] * (1 + (fault == "twice"))
        expected += ["BILLED_TWICE"] if fault == "twice" else []
    chance.shuffle(given)
    answer = await give(world, given)

    assert kinds(answer) == sorted(expected), f"seed {seed}"
