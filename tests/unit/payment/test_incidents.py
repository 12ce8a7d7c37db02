"""What is not as the books say: it is kept, it is counted once, and a named human decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client.outcomes import AttemptState, Outcome, PaymentResult
from lastunit.payment.desk import ALLOWED
from lastunit.payment.incidents import SEVERITIES, IncidentKind, Resolution
from lastunit.payment.provider import CreateOrder
from lastunit.payment.sandbox.knobs import SandboxKnobs
from lastunit.payment.v1 import payment_service_pb2 as pb

from .world import AMOUNT_MINOR, START_MS, World, settled

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_MS = 86_400_000
REFUND = pb.INCIDENT_RESOLUTION_REFUND
ELSEWHERE = pb.INCIDENT_RESOLUTION_REFUNDED_ELSEWHERE
NOTE = pb.INCIDENT_RESOLUTION_NOTE


async def wrong_money(**fault: float) -> World:
    """Makes a world in which `order-1:1` was paid with another sum, as a callback says."""
    world = World(SandboxKnobs().changed(fault or {"amount_fault_probability": 1}))
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 5_000)
    world.sandbox.knobs = SandboxKnobs()
    return world


async def stranger(world: World, number: str = "stranger:1") -> None:
    """Lets the provider take money for an attempt that nobody here has started."""
    world.sandbox.create(CreateOrder(number, "card", 500, "CNY"))
    world.sandbox.pay(number)
    await world.run_until(world.clock.now_ms() + 2_000)


async def shown(world: World, **wanted: Any) -> Sequence[pb.Incident]:
    """Returns incidents."""
    request = pb.ListIncidentsRequest(page_size=100, **wanted)
    return (await world.core.list_incidents(request)).incidents


async def decide(
    world: World, incident: pb.Incident, resolution: int = REFUND, **changes: Any
) -> pb.ResolveIncidentResponse:
    """Decides."""
    request = pb.ResolveIncidentRequest(
        request_id="d-1", incident_id=incident.incident_id, actor="ann", reason="talked to bank"
    )
    request.resolution = resolution  # type: ignore[assignment] # one of the contract's numbers
    for name, value in changes.items():
        setattr(request, name, value)
    return await world.core.resolve_incident(request)


def back(world: World, number: str = "order-1:1") -> int:
    """Returns what the provider has given back of an attempt."""
    rows = [row for row in world.sandbox.bill() if row.merchant_no == number]
    return rows[0].refunded_minor


@pytest.mark.parametrize(
    ("fault", "kind", "found"),
    [
        ("amount_fault_probability", pb.INCIDENT_KIND_AMOUNT_DIFFERS, (AMOUNT_MINOR - 1, "CNY")),
        ("currency_fault_probability", pb.INCIDENT_KIND_CURRENCY_DIFFERS, (AMOUNT_MINOR, "XXX")),
    ],
)
async def test_other_money_than_asked_for_opens_an_incident(
    fault: str, kind: int, found: tuple[int, str]
) -> None:
    """It says what was asked for and what came, of which attempt and order, and from where."""
    world = await wrong_money(**{fault: 1})
    (incident,) = await shown(world, state=pb.INCIDENT_STATE_OPEN)

    assert (incident.kind, incident.severity) == (kind, "TODAY")
    assert (incident.attempt_id, incident.order_id) == ("order-1:1", "order-1")
    assert (incident.expected_amount_minor, incident.expected_currency) == (AMOUNT_MINOR, "CNY")
    assert (incident.found_amount_minor, incident.found_currency) == found
    assert incident.last_source == "callback e-1"
    assert (await world.totals())["incident_open_count"] == 1
    world.close()


async def test_a_decided_refund_frees_the_unit_when_the_money_is_back() -> None:
    """REFUND sends back what came; then the ledger is told CANCELLED."""
    world = await wrong_money()
    (incident,) = await shown(world)
    answer = await decide(world, incident)
    await world.run_until(START_MS + 20_000)

    assert answer.refusal == pb.REFUSAL_UNSPECIFIED
    assert (answer.incident.actor, answer.incident.reason) == ("ann", "talked to bank")
    assert answer.incident.refund_id
    assert back(world) == AMOUNT_MINOR - 1
    assert world.results() == [PaymentResult.CANCELLED]
    assert await shown(world, state=pb.INCIDENT_STATE_OPEN) == []
    world.close()


async def test_money_that_went_back_elsewhere_frees_the_unit_on_a_names_word() -> None:
    """Nothing is sent back a second time; who vouched stands in the record."""
    world = await wrong_money()
    (incident,) = await shown(world)
    await decide(world, incident, ELSEWHERE)
    await world.run_until(START_MS + 20_000)
    told = (
        await world.core.list_transitions(
            pb.ListTransitionsRequest(order_id="order-1", page_size=100)
        )
    ).transitions

    assert back(world) == 0
    assert world.results() == [PaymentResult.CANCELLED]
    assert ("ann", "QUARANTINED", "CANCELLED") in [
        (each.actor, each.state_from, each.state_to) for each in told
    ]
    world.close()


async def test_a_note_alone_is_refused_while_a_unit_waits() -> None:
    """It would leave the unit waiting for ever, so the service says what is allowed instead."""
    world = await wrong_money()
    (incident,) = await shown(world)
    answer = await decide(world, incident, NOTE)

    assert answer.refusal == pb.REFUSAL_NOT_ALLOWED
    assert list(incident.allowed) == [REFUND, ELSEWHERE]
    world.close()


async def test_an_incident_ends_by_itself_when_the_money_is_back() -> None:
    """Who asks for the refund by RefundAttempt need not resolve anything."""
    world = await wrong_money()
    request = pb.RefundAttemptRequest(request_id="q-1", attempt_id="order-1:1", reason="wrong")
    await world.core.refund_attempt(request)
    await world.run_until(START_MS + 20_000)
    (incident,) = await shown(world)

    assert incident.state == pb.INCIDENT_STATE_RESOLVED
    assert (incident.actor, incident.reason) == ("payment-service", "all of the money is back")
    world.close()


async def test_a_stranger_is_one_incident_however_often_it_is_told(world: World) -> None:
    """A callback, its duplicate and one more event: one row, seen twice."""
    world.sandbox.knobs = SandboxKnobs(duplicate_probability=1, duplicate_delay_ms=10)
    world.sandbox.create(CreateOrder("stranger:1", "card", 500, "CNY"))
    world.sandbox.fail("stranger:1")
    world.sandbox.pay("stranger:1")
    await world.run_until(START_MS + 5_000)
    (incident,) = await shown(world)

    assert (incident.kind, incident.seen_count) == (pb.INCIDENT_KIND_UNKNOWN_ATTEMPT, 2)
    assert (await world.totals())["orphan_count"] == 2


async def test_the_money_of_a_stranger_can_go_back_once(world: World) -> None:
    """REFUND sends back what was told to be paid, and the ledger hears nothing."""
    await stranger(world)
    (incident,) = await shown(world)
    answer = await decide(world, incident)
    await world.run_until(START_MS + 20_000)
    again = await decide(world, incident, request_id="d-2")

    assert answer.refusal == pb.REFUSAL_UNSPECIFIED
    assert back(world, "stranger:1") == 500
    assert again.refusal == pb.REFUSAL_ALREADY_RESOLVED
    assert (world.results(), world.ledger.refunds) == ([], [])


async def test_a_stranger_that_was_started_since_is_no_stranger(world: World) -> None:
    """Its money may have bought a unit, so the incident can only be noted."""
    await world.tell("payment.succeeded", "e-early")
    await world.start()
    (incident,) = await shown(world)
    refused = await decide(world, incident)
    noted = await decide(world, incident, NOTE)

    assert [refused.refusal, noted.refusal] == [pb.REFUSAL_NOT_ALLOWED, pb.REFUSAL_UNSPECIFIED]


async def test_a_stranger_that_took_no_money_can_only_be_noted(world: World) -> None:
    """A failed attempt of a stranger has nothing to give back."""
    world.sandbox.create(CreateOrder("stranger:1", "card", 500, "CNY"))
    world.sandbox.fail("stranger:1")
    await world.run_until(START_MS + 2_000)
    (incident,) = await shown(world)
    refused = await decide(world, incident)
    noted = await decide(world, incident, NOTE)

    assert [refused.refusal, noted.refusal] == [pb.REFUSAL_NOT_PAID, pb.REFUSAL_UNSPECIFIED]


async def test_a_noted_stranger_is_open_again_when_something_else_is_told(world: World) -> None:
    """First it failed, which was noted; then it was paid, which nobody has judged."""
    world.sandbox.create(CreateOrder("stranger:1", "card", 500, "CNY"))
    world.sandbox.fail("stranger:1")
    await world.run_until(START_MS + 2_000)
    (incident,) = await shown(world)
    await decide(world, incident, NOTE)
    world.sandbox.pay("stranger:1")
    await world.run_until(START_MS + 5_000)
    (again,) = await shown(world)

    assert (again.state, again.what) == (pb.INCIDENT_STATE_OPEN, "payment.succeeded")


async def test_a_decision_is_one_by_its_request(world: World) -> None:
    """The repeat is shown as it was; other content under the same id is a conflict."""
    await stranger(world)
    (incident,) = await shown(world)
    await decide(world, incident)
    repeat = await decide(world, incident)
    other = await decide(world, incident, reason="another")
    await world.run_until(START_MS + 20_000)

    assert (repeat.replayed, repeat.refusal) == (True, pb.REFUSAL_UNSPECIFIED)
    assert (other.refusal, other.conflict_field) == (pb.REFUSAL_CONFLICT, "reason")
    assert back(world, "stranger:1") == 500


async def test_nobody_decides_what_is_not_there(world: World) -> None:
    """An unknown incident is refused."""
    answer = await decide(world, pb.Incident(incident_id="i-nothing"))

    assert answer.refusal == pb.REFUSAL_UNKNOWN_INCIDENT


async def owed_and_refused() -> World:
    """Makes a world in which the ledger owes money and the provider has refused it for good."""
    world = World(SandboxKnobs(is_refund_refused=True))
    await world.start()
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.REFUND_DUE, refund_due=True))
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + DAY_MS)
    return world


async def test_a_given_up_refund_is_an_incident_and_is_tried_again_on_a_decision() -> None:
    """After the last pause it is shown; REFUND tries once more, and done it is over."""
    world = await owed_and_refused()
    (incident,) = await shown(world, state=pb.INCIDENT_STATE_OPEN)
    world.sandbox.knobs = SandboxKnobs()
    await decide(world, incident)
    await world.run_until(START_MS + DAY_MS + 60_000)

    assert incident.kind == pb.INCIDENT_KIND_REFUND_GIVEN_UP
    assert back(world) == AMOUNT_MINOR
    assert world.ledger.refunds == ["order-1:1"]
    world.close()


async def test_a_refund_that_is_refused_once_more_is_open_again() -> None:
    """The decision did not help: the incident is open, and says how often it was seen."""
    world = await owed_and_refused()
    (incident,) = await shown(world)
    await decide(world, incident)
    await world.run_until(START_MS + DAY_MS + 60_000)
    (again,) = await shown(world)

    assert (again.state, again.seen_count) == (pb.INCIDENT_STATE_OPEN, 2)
    world.close()


async def test_a_refund_done_elsewhere_is_told_to_the_ledger() -> None:
    """A named human vouches for a given-up refund: DONE, and RecordRefund."""
    world = await owed_and_refused()
    (incident,) = await shown(world)
    await decide(world, incident, ELSEWHERE)
    await world.run_until(START_MS + DAY_MS + 60_000)

    assert back(world) == 0
    assert world.ledger.refunds == ["order-1:1"]
    world.close()


async def test_a_refund_the_bank_sends_back_after_it_was_done_is_an_incident(world: World) -> None:
    """DONE stays DONE, nothing is sent twice, and somebody has to look now."""
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 2_000)
    request = pb.RefundAttemptRequest(request_id="q-1", attempt_id="order-1:1", reason="wrong")
    refund = (await world.core.refund_attempt(request)).refund
    await world.run_until(START_MS + 5_000)
    await world.tell("refund.failed", "e-99", refund_key=refund.refund_id)
    (incident,) = await shown(world)

    assert (incident.kind, incident.severity) == (pb.INCIDENT_KIND_REFUND_SENT_BACK, "NOW")
    assert back(world) == AMOUNT_MINOR


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"refund_key": "r-nobody"}, pb.INCIDENT_KIND_UNKNOWN_REFUND),
        ({"amount_minor": 1}, pb.INCIDENT_KIND_REFUND_DIFFERS),
        ({"currency": "EUR"}, pb.INCIDENT_KIND_REFUND_DIFFERS),
    ],
)
async def test_news_of_another_refund_than_ours_is_an_incident(
    world: World, changes: dict[str, Any], kind: int
) -> None:
    """A refund that nobody asked for, or of another sum, is kept and believed by nobody."""
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 2_000)
    request = pb.RefundAttemptRequest(
        request_id="q-1", attempt_id="order-1:1", reason="wrong", amount_minor=4_000
    )
    refund = (await world.core.refund_attempt(request)).refund
    told = {"refund_key": refund.refund_id, "amount_minor": 4_000} | changes
    await world.tell("refund.succeeded", "e-99", **told)
    incidents = await shown(world)

    assert [each.kind for each in incidents] == [kind]


async def test_owed_money_of_an_unknown_attempt_wakes_somebody(world: World) -> None:
    """The ledger owes what this service never took: NOW."""
    world.ledger.happen(refund_became_due={"attempt_id": "nobody:1"})
    await world.work()
    (incident,) = await shown(world)

    assert (incident.kind, incident.severity) == (pb.INCIDENT_KIND_OWED_UNKNOWN, "NOW")
    assert incident.last_source == "ledger 1"


async def test_incidents_come_in_pages(world: World) -> None:
    """Page by page nothing is left out and nothing comes twice."""
    for number in range(5):
        await stranger(world, f"stranger:{number}")
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListIncidentsRequest(page_size=2, page_token=token)
        page = await world.core.list_incidents(request)
        seen += [each.attempt_id for each in page.incidents]
        token = page.next_page_token
        if not token:
            break

    assert sorted(seen) == [f"stranger:{number}" for number in range(5)]


def test_each_kind_has_a_severity_and_a_way_out() -> None:
    """No incident that nobody may resolve, and every kind is in the contract."""
    for kind in IncidentKind:
        assert SEVERITIES[kind]
        assert ALLOWED[kind]
        assert pb.IncidentKind.Value(f"INCIDENT_KIND_{kind}")
    for resolution in Resolution:
        assert pb.IncidentResolution.Value(f"INCIDENT_RESOLUTION_{resolution}")
