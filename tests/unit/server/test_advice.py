"""What is advised: the arithmetic, and the sentence where too little is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit_server.advice import Advice, Facts, Look, Orders, SaleLife, advise
from lastunit_server.advisor import Advisor
from lastunit_server.counts import LATENCY_BOUNDS, CallCounts
from lastunit_server.settings import GateSettings

if TYPE_CHECKING:
    from lastunit_server._native import Node
    from lastunit_server.gates import Gates

# 30 units of work a second, three an order, payments of 90 s: ten orders a second.
ORDERS = Orders(
    age_seconds=0.1,
    work_per_second=30.0,
    work_per_order=3.0,
    pay_p99_seconds=90.0,
    pay_count=200,
)
SALE = SaleLife("flash", 600.0)


def numbers(facts: Facts) -> dict[str, float]:
    """Returns what is advised by its name."""
    return {advice.key: advice.value for advice in advise(facts).advices}


def whys(facts: Facts) -> dict[str, str]:
    """Returns what is not advised, and why."""
    return {missing.key: missing.why for missing in advise(facts).missing}


def looks(*steps: tuple[float, float], each: int = 10) -> list[Look]:
    """Returns seconds at given rates with given p99."""
    return [Look(rate, int(rate), p99) for rate, p99 in steps for _ in range(each)]


def test_the_longest_queue_is_rate_times_what_is_left_of_a_life() -> None:
    """10/s x (600 - 90 - 30) s is 4,800; each figure of it is shown."""
    advised = advise(Facts(sales=[SALE], orders=ORDERS, margin_seconds=30.0))
    [queue] = [advice for advice in advised.advices if advice.key == "queue_count_max"]

    assert (queue.value, queue.sale_id) == (4_800, "flash")
    assert queue.arithmetic == "10/s x (600 - 90 - 30) s = 4800"
    assert numbers(Facts(sales=[SALE], orders=ORDERS))["queue_count_max"] == 4_500


def test_the_margin_is_one_for_all_sales_and_stands_beside_what_it_is_for() -> None:
    """The gate has one; a tenth of the shortest life unless somebody says otherwise."""
    short = replace(SALE, sale_id="short", ttl_seconds=300.0)
    facts = Facts(sales=[SALE, short], orders=ORDERS)
    queues = [each.arithmetic for each in advise(facts).advices if each.key == "queue_count_max"]

    assert numbers(facts)["gate.margin_seconds"] == 30
    assert queues == ["10/s x (600 - 90 - 30) s = 4800", "10/s x (300 - 90 - 30) s = 1800"]
    assert numbers(replace(facts, margin_seconds=12.0))["gate.margin_seconds"] == 12


def test_the_rate_of_orders_is_that_of_the_database_over_what_an_order_takes() -> None:
    """30 units a second, three an order; what is set now is put beside it."""
    facts = Facts(orders=ORDERS, present={"gate.settled_per_second": 40.0})
    [rate] = [each for each in advise(facts).advices if each.key == "gate.settled_per_second"]

    assert rate.arithmetic == "30 units of work/s / 3 units an order = 10/s"
    assert (rate.value, rate.present) == (10.0, 40.0)


def test_the_window_is_what_the_database_writes_until_it_is_heard_of() -> None:
    """Twice 2,000/s x (50 + 100) ms; the floor is a tenth."""
    quick = replace(ORDERS, work_per_second=2_000.0)

    assert numbers(Facts(orders=quick))["window.credits_max"] == 600
    assert numbers(Facts(orders=quick))["window.floor_rate_per_second"] == 200.0


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        (None, "has not reported yet"),
        (replace(ORDERS, age_seconds=61.0), "silent for 61 s"),
        (replace(ORDERS, work_per_second=0.0), "has not been busy"),
        (replace(ORDERS, work_per_order=0.0), "fewer than 30 orders were paid"),
    ],
)
def test_what_the_order_service_has_not_shown_is_not_advised(
    orders: Orders | None, words: str
) -> None:
    """Each gap has a sentence that says what has to happen first, and no number."""
    facts = Facts(sales=[SALE], orders=orders)

    assert words in whys(facts)["gate.settled_per_second"]
    assert "queue_count_max" in whys(facts)
    assert "queue_count_max" not in numbers(facts)


def test_few_payments_give_a_rate_and_no_queue() -> None:
    """29 payments say nothing of the slowest in a hundred."""
    facts = Facts(sales=[SALE], orders=replace(ORDERS, pay_count=29))

    assert "gate.settled_per_second" in numbers(facts)
    assert "29 payments were seen" in whys(facts)["queue_count_max"]


def test_a_life_that_payments_use_up_has_no_queue() -> None:
    """A short life is told as that, not as a queue of nothing or less."""
    short = SaleLife("short", 60.0)
    facts = Facts(sales=[short, SALE], orders=ORDERS)

    assert "lengthen reservation_ttl" in whys(facts)["queue_count_max"]
    assert numbers(facts)["queue_count_max"] == 5_040


def test_a_knee_is_found_where_latency_leaves_the_calm() -> None:
    """Flat to 800/s and ten times as slow at 1,200/s: three quarters of 800."""
    steps = ((100.0, 0.005), (400.0, 0.005), (800.0, 0.01), (1_200.0, 0.1))
    advised = numbers(Facts(looks=looks(*steps)))

    assert advised["lanes.reservation.rate_per_second"] == 600.0
    assert advised["lanes.reservation.burst"] == 30


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (looks((100.0, 0.005), each=29), "29 seconds with 5 reservations or more"),
        (looks((100.0, 0.005), (200.0, 0.1), each=20), "between 100/s and 200/s"),
        (looks((100.0, 0.005), (900.0, 0.01), each=20), "no knee up to 900/s"),
    ],
)
def test_without_a_knee_no_rate_is_advised(seen: list[Look], words: str) -> None:
    """Too few seconds, a load that hardly varies, and one that was borne: no number."""
    assert words in whys(Facts(looks=seen))["lanes.reservation.rate_per_second"]


class NoGates:
    """A ledger without sales."""

    def all(self) -> list[Any]:
        """Returns no gate."""
        return []


class NoPolicy:
    """A node whose policy sets nothing."""

    def policy_json(self) -> str:
        """Returns no settings."""
        return '{"settings": {}}'


def advisor(now: list[float]) -> Advisor:
    """An advisor on a clock that the test sets."""
    node, gates = cast("Node", NoPolicy()), cast("Gates", NoGates())
    return Advisor(node, gates, GateSettings(), clock=lambda: now[0])


def test_the_advisor_takes_what_is_counted_and_reported() -> None:
    """Forty seconds of calls and a report become advice; the report grows old."""
    now, counts = [0.0], CallCounts()
    measured = advisor(now)
    measured.watch_counts({"data": counts})
    spans = [0] * (len(LATENCY_BOUNDS) + 1)
    counts._spans["/lastunit.stock.v1.StockService/Reserve"] = spans
    counts._seconds["/lastunit.stock.v1.StockService/Reserve"] = 0.0
    measured.look()
    for second in range(40):
        now[0] += 1.0
        rate, place = ((100, 0), (900, 7))[second % 2]
        spans[place] += rate
        measured.look()
    report = messages.ReportPressureRequest(
        work_per_second_milli=30_000, work_per_order_milli=3_000, pay_count=200
    )
    report.pay_p99.FromSeconds(90)
    measured.note_report(report)
    told: dict[str, Advice] = {each.key: each for each in measured.advise().advices}
    now[0] += 61.0
    late = {each.key for each in measured.advise().advices}

    assert told["lanes.reservation.rate_per_second"].arithmetic == "0.75 x 100/s = 75/s"
    assert told["gate.settled_per_second"].value == 10.0
    assert late == {"lanes.reservation.rate_per_second", "lanes.reservation.burst"}
