"""What the order service shows of itself at `/metrics`, beside its calls and databases.

Owns the table of these metrics and the looks behind them, one each scrape, each by an index. Must
not label anything with an order. docs/reference/metrics.md is made from the table.
Next: `lastunit.service.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lastunit.order import schema
from lastunit.order.refunds import RefundState
from lastunit.service.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit.order.follower import OrderFollower
    from lastunit.order.person_watch import PersonWatch
    from lastunit.order.watching import OrderWatch
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["METRICS", "OrderMetrics"]

METRICS: Final = (
    Family(
        "lastunit_order_owed_refunds",
        "gauge",
        "Refunds that were asked of this service and whose money is not back yet.",
    ),
    Family(
        "lastunit_order_owed_refund_age_seconds",
        "gauge",
        "How long the oldest of them waits; 0 if none does.",
    ),
    Family(
        "lastunit_order_waiting_deliveries",
        "gauge",
        "Refunds and returns of which the payment service or the ledger has still to be told.",
    ),
    Family(
        "lastunit_order_watchers",
        "gauge",
        "WatchOrder streams that are open in this process.",
    ),
    Family(
        "lastunit_order_followed_sequence",
        "gauge",
        "The last event of the ledger whose effects are durable here.",
    ),
    Family(
        "lastunit_order_unexpected_events_total",
        "counter",
        "Events that had no place in their order's state; each led to a comparison.",
    ),
    Family(
        "lastunit_order_disagreements_total",
        "counter",
        "Comparisons in which the table knows no way to what the ledger says: find out why.",
    ),
    Family(
        "lastunit_order_person_answers_total",
        "counter",
        "Questions who stands behind an account, by whether the answer was kept in memory.",
        ("source",),
    ),
    Family(
        "lastunit_order_person_calls_total",
        "counter",
        "ResolvePerson calls that the other answers took, of up to 256 accounts each.",
    ),
    Family(
        "lastunit_order_followed_person_sequence",
        "gauge",
        "The last change of persons at the account service that is known here.",
    ),
)
_BY_NAME: Final = {family.name: family for family in METRICS}

_REFUNDS: Final = schema.order_refunds
_RETURNS: Final = schema.order_returns

# What is done has no next try; units that wait for the rest of the money have none either.
_OWED: Final = sa.select(sa.func.count(), sa.func.min(_REFUNDS.c.create_ms)).where(
    _REFUNDS.c.next_try_ms.is_not(None), _REFUNDS.c.state == RefundState.ASKED.value
)
_WAITING: Final = tuple(
    sa.select(sa.func.count()).where(table.c.next_try_ms.is_not(None))
    for table in (_REFUNDS, _RETURNS)
)


class OrderMetrics(Collector):
    """Looks at the database and the follower at each scrape.

    Args:
        database: The order service's tables.
        follower: Follows the ledger.
        watch: Streams the orders' moves.
        person_watch: Follows changes of persons, for what is kept of them.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        database: Database,
        follower: OrderFollower,
        watch: OrderWatch,
        person_watch: PersonWatch,
        clock: Clock,
    ) -> None:
        self._database = database
        self._follower = follower
        self._watch = watch
        self._person_watch = person_watch
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        with self._database.read() as connection:
            owed, since_ms = connection.execute(_OWED).one()
            waiting = sum(int(connection.execute(query).scalar_one()) for query in _WAITING)
        age_ms = 0 if since_ms is None else max(0, self._clock.now_ms() - int(since_ms))
        values: dict[str, float] = {
            "lastunit_order_owed_refunds": int(owed),
            "lastunit_order_owed_refund_age_seconds": age_ms / 1_000,
            "lastunit_order_waiting_deliveries": waiting,
            "lastunit_order_watchers": self._watch.count,
            "lastunit_order_followed_sequence": self._follower.position,
            "lastunit_order_unexpected_events_total": self._follower.illegal_count,
            "lastunit_order_disagreements_total": self._follower.divergent_count,
            "lastunit_order_person_calls_total": self._person_watch.directory.call_count,
            "lastunit_order_followed_person_sequence": self._person_watch.position,
        }
        for name, value in values.items():
            kind: Any = CounterMetricFamily
            if _BY_NAME[name].kind == "gauge":
                kind = GaugeMetricFamily
            yield kind(name, _BY_NAME[name].help, value=value)
        answers = _BY_NAME["lastunit_order_person_answers_total"]
        counted = CounterMetricFamily(answers.name, answers.help, labels=answers.labels)
        counted.add_metric(["memory"], self._person_watch.directory.hit_count)
        counted.add_metric(["account service"], self._person_watch.directory.miss_count)
        yield counted
