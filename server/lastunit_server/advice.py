"""What number to set: limits reckoned from what was measured, with the arithmetic.

Owns the formulas and the least that must be known for each. A pure function of what it is given;
must not measure (see `advisor`) or know a transport. Where it is used: `lastunit admission advise`,
`lastunit-server advise`, the console.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Advice", "Advised", "Facts", "Look", "Missing", "Orders", "SaleLife", "advise"]

# Fewer payments say nothing of the slowest one in a hundred.
PAYS_MIN = 30
# A service that has been silent for longer may be another one by now.
ORDERS_AGE_SECONDS_MAX = 60.0
# Of a knee: seconds that were looked at, calls in each, and how much the load must have varied.
LOOKS_MIN = 30
CALLS_PER_LOOK_MIN = 5
LOAD_SPREAD_MIN = 3.0
# The latency at the knee, in those of a calm second; and what is set of the rate there, which is
# what Netflix' concurrency-limits and Cloudflare recommend.
KNEE_FACTOR = 3.0
KNEE_SHARE = 0.75
_BINS = 12
_LOOKS_IN_BIN_MIN = 3
# A burst may be as long as nobody notices; shorter than 10 ms it loses tokens to the scheduler.
BURST_SECONDS = 0.05
MARGIN_SHARE = 0.1
# Without a report a tenth of the normal: so few that a slow database bears them.
FLOOR_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Orders:
    """What the order service said last.

    Attributes:
        age_seconds: How long ago.
        work_per_second: Units of work that its database does while work waits; 0 is not known.
        work_per_order: Units of work an order takes; 0 is not known.
        pay_p99_seconds: How long a payment takes from begin to news, of 99 in a hundred.
        pay_count: Of how many payments that speaks.
    """

    age_seconds: float
    work_per_second: float
    work_per_order: float
    pay_p99_seconds: float
    pay_count: int


@dataclass(frozen=True, slots=True)
class Look:
    """One second of reservations.

    Attributes:
        rate: Answered a second.
        call_count: How many were answered.
        p99_seconds: How long they took, of 99 in a hundred, as an upper bound.
    """

    rate: float
    call_count: int
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class SaleLife:
    """How long a reservation of a sale that is not over lives."""

    sale_id: str
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that advice is made of.

    Attributes:
        sales: Sales that are not over.
        orders: The order service's last report; None before the first.
        looks: Seconds of reservations.
        margin_seconds: Left over at the end of a life; None takes a tenth of the shortest life.
        present: What is set now, by the name of the setting.
    """

    sales: Sequence[SaleLife] = ()
    orders: Orders | None = None
    looks: Sequence[Look] = ()
    margin_seconds: float | None = None
    present: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Advice:
    """One number; see `lastunit.admission.v1.Advice`."""

    key: str
    value: float
    unit: str
    arithmetic: str
    basis: str
    sale_id: str = ""
    present: float | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A number that can't be told yet."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Advised:
    """All that can be said."""

    advices: tuple[Advice, ...]
    missing: tuple[Missing, ...]


def advise(facts: Facts) -> Advised:
    """Reckons every number that the facts bear."""
    said = [*_queue(facts), *_window(facts), *_rate(facts)]
    return Advised(
        tuple(each for each in said if isinstance(each, Advice)),
        tuple(each for each in said if isinstance(each, Missing)),
    )


def _orders(facts: Facts, key: str) -> Orders | Missing:
    orders = facts.orders
    if orders is None:
        return Missing(
            key,
            "the order service has not reported yet; it does so ten times a second to the"
            " settlement listener once it runs (ReportPressure)",
        )
    if orders.age_seconds > ORDERS_AGE_SECONDS_MAX:
        return Missing(
            key, f"the order service has been silent for {orders.age_seconds:.0f} s; start it"
        )
    if not orders.work_per_second:
        return Missing(
            key,
            "the order database has not been busy in the last ten minutes, so what it can do is not"
            " known; let a rush or a load test run until work waits for it",
        )
    return orders


def _queue(facts: Facts) -> list[Advice | Missing]:
    """Qmax: the worst wait of who waits to be paid is queue / rate, so queue <= rate x time."""
    rate_key, queue_key = "gate.settled_per_second", "queue_count_max"
    orders = _orders(facts, rate_key)
    if isinstance(orders, Missing):
        return [orders, Missing(queue_key, f"{rate_key} is not known")]
    if not orders.work_per_order:
        why = "fewer than 30 orders were paid since the order service started; let some be paid"
        return [Missing(rate_key, why), Missing(queue_key, f"{rate_key} is not known")]
    rate = orders.work_per_second / orders.work_per_order
    said: list[Advice | Missing] = [
        Advice(
            rate_key,
            round(rate, 3),
            "reservations/s",
            f"{_number(orders.work_per_second)} units of work/s / "
            f"{_number(orders.work_per_order)} units an order = {_number(rate)}/s",
            "what the order database did while work waited for it, and what a paid order took of"
            " it, cancels and expiries included",
            present=facts.present.get(rate_key),
        )
    ]
    if orders.pay_count < PAYS_MIN:
        why = f"{orders.pay_count} payments were seen, {PAYS_MIN} are needed for their slowest part"
        return [*said, Missing("gate.pay_p99_seconds", why), Missing(queue_key, why)]
    pay = orders.pay_p99_seconds
    said.append(
        Advice(
            "gate.pay_p99_seconds",
            round(pay, 3),
            "s",
            f"99 in a hundred of {orders.pay_count} payments took {_number(pay)} s at most",
            "from the begin of a payment to its news, in ledger time",
            present=facts.present.get("gate.pay_p99_seconds"),
        )
    )
    if not facts.sales:
        return [*said, Missing(queue_key, "no sale is scheduled, open or paused")]
    margin = _margin(facts)
    queues = (_queue_of(facts, sale, rate, pay, margin.value) for sale in facts.sales)
    return [*said, margin, *queues]


def _margin(facts: Facts) -> Advice:
    """Says what every queue is reckoned with: the gate knows one margin, whatever the sale."""
    key = "gate.margin_seconds"
    present = facts.present.get(key)
    if facts.margin_seconds is not None:
        said, why = f"{_number(facts.margin_seconds)} s", "as asked for, or as set"
        return Advice(key, facts.margin_seconds, "s", said, why, present=present)
    shortest = min(sale.ttl_seconds for sale in facts.sales)
    margin = MARGIN_SHARE * shortest
    return Advice(
        key,
        round(margin, 3),
        "s",
        f"{MARGIN_SHARE} x {_number(shortest)} s = {_number(margin)} s",
        "left over at the end of a life, for what no measurement has seen: a tenth of the shortest",
        present=present,
    )


def _queue_of(
    facts: Facts, sale: SaleLife, rate: float, pay: float, margin: float
) -> Advice | Missing:
    left = sale.ttl_seconds - pay - margin
    terms = f"({_number(sale.ttl_seconds)} - {_number(pay)} - {_number(margin)}) s"
    if left <= 0:
        return Missing(
            "queue_count_max",
            f"sale {sale.sale_id}: nothing is left of {terms}; lengthen reservation_ttl or make"
            " payments quicker, no queue is short enough",
        )
    return Advice(
        "queue_count_max",
        math.floor(rate * left),
        "reservations",
        f"{_number(rate)}/s x {terms} = {math.floor(rate * left)}",
        "rate x (reservation_ttl - pay_p99 - margin): as many may wait to be paid, so that the last"
        " one's payment is taken within its life. The gate keeps to it with the settings above",
        sale_id=sale.sale_id,
        present=facts.present.get(f"queue_count_max {sale.sale_id}"),
    )


def _window(facts: Facts) -> list[Advice | Missing]:
    """W: what the database does in the time that a grant may wait and until it is heard of."""
    key = "window.credits_max"
    orders = _orders(facts, key)
    if isinstance(orders, Missing):
        return [orders]
    delay = facts.present.get("window.target_delay_ms", 50.0) / 1000
    interval = facts.present.get("window.report_interval_ms", 100.0) / 1000
    rate = orders.work_per_second
    # Twice: the window follows the measured rate by itself, this is the ceiling of what it learns.
    credits_max = max(16, math.ceil(round(2 * rate * (delay + interval), 6)))
    floor = FLOOR_SHARE * rate
    terms = f"({_number(delay)} + {_number(interval)}) s"
    return [
        Advice(
            key,
            credits_max,
            "reservations",
            f"2 x {_number(rate)}/s x {terms} = {credits_max}",
            "twice what the order database writes down in target_delay + report_interval, at least"
            " 16; the window stays below it by itself while the database is slow",
            present=facts.present.get(key),
        ),
        Advice(
            "window.floor_rate_per_second",
            round(floor, 3),
            "reservations/s",
            f"{FLOOR_SHARE} x {_number(rate)}/s = {_number(floor)}/s",
            "what is granted while the order service is silent",
            present=facts.present.get("window.floor_rate_per_second"),
        ),
    ]


def _rate(facts: Facts) -> list[Advice | Missing]:
    """The reservation lane's rate, from the knee of latency over load."""
    key = "lanes.reservation.rate_per_second"
    looks = [look for look in facts.looks if look.call_count >= CALLS_PER_LOOK_MIN]
    if len(looks) < LOOKS_MIN:
        return [
            Missing(
                key,
                f"{len(looks)} seconds with {CALLS_PER_LOOK_MIN} reservations or more were seen in"
                f" the last ten minutes, {LOOKS_MIN} are needed",
            )
        ]
    least, most = min(look.rate for look in looks), max(look.rate for look in looks)
    if most < LOAD_SPREAD_MIN * least:
        return [
            Missing(
                key,
                f"the load was between {_number(least)}/s and {_number(most)}/s; a knee shows when"
                f" it varies by {LOAD_SPREAD_MIN:.0f} times, as in a load test that rises by steps",
            )
        ]
    bins = _bins(looks, least, most)
    calm = bins[0][1]
    at_knee = next((place for place, (_, p99) in enumerate(bins) if p99 > KNEE_FACTOR * calm), None)
    if at_knee is None:
        return [
            Missing(
                key,
                f"no knee up to {_number(most)}/s: reservations took {_number(bins[-1][1])} s there"
                f" and {_number(calm)} s when calm (99 in a hundred); the limit is higher",
            )
        ]
    knee = bins[max(0, at_knee - 1)][0]
    rate = KNEE_SHARE * knee
    burst = max(1, math.ceil(BURST_SECONDS * rate))
    return [
        Advice(
            key,
            round(rate, 3),
            "tokens/s",
            f"{KNEE_SHARE} x {_number(knee)}/s = {_number(rate)}/s",
            f"above {_number(knee)}/s reservations took {_number(bins[at_knee][1])} s, more than"
            f" {KNEE_FACTOR:.0f} times the {_number(calm)} s of calm seconds (99 in a hundred, of"
            f" {len(looks)} seconds)",
            present=facts.present.get(key),
        ),
        Advice(
            "lanes.reservation.burst",
            burst,
            "tokens",
            f"{BURST_SECONDS} s x {_number(rate)}/s = {burst}",
            "50 ms of the rate: nobody notices, and no token is lost to the scheduler",
            present=facts.present.get("lanes.reservation.burst"),
        ),
    ]


def _bins(looks: Sequence[Look], least: float, most: float) -> list[tuple[float, float]]:
    """Sorts seconds by load; gives the top rate and the median p99 of each bin that has enough."""
    width = (most - least) / _BINS
    found: dict[int, list[Look]] = {}
    for look in looks:
        found.setdefault(min(_BINS - 1, int((look.rate - least) / width)), []).append(look)
    enough = [place for place in sorted(found) if len(found[place]) >= _LOOKS_IN_BIN_MIN]
    return [
        (max(look.rate for look in found[place]), median(look.p99_seconds for look in found[place]))
        for place in enough or sorted(found)
    ]


def _number(value: float) -> str:
    """Writes four digits that count, and no more."""
    if value >= 1000:  # noqa: PLR2004 - from here on every digit before the point is one of them
        return f"{value:,.0f}"
    return f"{value:.4g}"
