"""What payment service and webhook show of money at `/metrics`, beside its calls and databases.

Owns the table of these metrics and the looks at the books behind them, one each scrape, each by an
index. Must not label anything with an attempt or an order. docs/reference/metrics.md is made from
the table. Next: `lastunit.service.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lastunit.payment import incidents, positions, schema
from lastunit.payment.breaker import BreakerState
from lastunit.service.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lastunit.payment.breaker import Breaker
    from lastunit.payment.webhook import Webhook
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["METRICS", "WEBHOOK_METRICS", "PaymentMetrics", "WebhookMetrics"]

METRICS: Final = (
    Family(
        "lastunit_payment_open_incidents",
        "gauge",
        "What a human has to look at: money that is not as the books say.",
        ("kind",),
    ),
    Family(
        "lastunit_payment_open_refunds",
        "gauge",
        "Refunds that are under way; those that were given up are incidents.",
    ),
    Family(
        "lastunit_payment_settlement_lag_seconds",
        "gauge",
        "How long the ledger has not been told of the oldest result; 0 if none waits.",
    ),
    Family(
        "lastunit_payment_inbox_waiting",
        "gauge",
        "Stored callbacks that were not acted upon.",
    ),
    Family(
        "lastunit_payment_inbox_lag_seconds",
        "gauge",
        "How long the oldest of them waits; 0 if none does.",
    ),
    Family(
        "lastunit_payment_provider_state",
        "gauge",
        "1 for the state in which a provider's breaker is, 0 for the others.",
        ("provider", "state"),
    ),
)
WEBHOOK_METRICS: Final = (
    Family(
        "lastunit_webhook_callbacks_total",
        "counter",
        "Callbacks by how they were answered: `ok`, or why not.",
        ("reason",),
    ),
    Family(
        "lastunit_webhook_slowed_total",
        "counter",
        "Callbacks that waited for a turn, for their address had sent too much that nobody signed.",
    ),
)
_BY_NAME: Final = {family.name: family for family in (*METRICS, *WEBHOOK_METRICS)}


class PaymentMetrics(Collector):
    """Looks at the books at each scrape.

    Args:
        database: The payment service's tables.
        inbox: The webhook's.
        breakers: By name of the provider.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        database: Database,
        inbox: Database,
        breakers: Mapping[str, Breaker],
        clock: Clock,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._breakers = breakers
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        now_ms = self._clock.now_ms()
        with self._database.read() as connection:
            yield _family("lastunit_payment_open_incidents", incidents.open_counts(connection))
            yield _single("lastunit_payment_open_refunds", _open_refunds(connection))
            lag = _settlement_lag_ms(connection, now_ms) / 1_000
            yield _single("lastunit_payment_settlement_lag_seconds", lag)
            position = positions.load(connection, "inbox")
        with self._inbox.read() as connection:
            count, since_ms = _waiting(connection, position)
        yield _single("lastunit_payment_inbox_waiting", count)
        lag = 0.0 if since_ms is None else max(0, now_ms - since_ms) / 1_000
        yield _single("lastunit_payment_inbox_lag_seconds", lag)
        yield self._providers()

    def _providers(self) -> Metric:
        name = "lastunit_payment_provider_state"
        family = GaugeMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
        for provider, breaker in self._breakers.items():
            for state in BreakerState:
                family.add_metric([provider, state.value], float(breaker.state is state))
        return family


class WebhookMetrics(Collector):
    """Shows what the webhook has counted.

    Args:
        webhook: Counts.
    """

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        name = "lastunit_webhook_callbacks"
        family = _BY_NAME[f"{name}_total"]
        answered = CounterMetricFamily(name, family.help, labels=family.labels)
        for reason, count in tuple(self._webhook.counts.items()):
            answered.add_metric([reason], count)
        yield answered
        name = "lastunit_webhook_slowed"
        slowed = self._webhook.flood.slowed_count
        yield CounterMetricFamily(name, _BY_NAME[f"{name}_total"].help, value=slowed)


def _open_refunds(connection: sa.Connection) -> int:
    is_open = schema.refunds.c.next_try_ms.is_not(None)
    return int(connection.execute(sa.select(sa.func.count()).where(is_open)).scalar_one())


def _settlement_lag_ms(connection: sa.Connection, now_ms: int) -> int:
    table = schema.settlements
    query = sa.select(sa.func.min(table.c.create_ms)).where(table.c.next_try_ms.is_not(None))
    since_ms = connection.execute(query).scalar_one()
    return 0 if since_ms is None else max(0, now_ms - int(since_ms))


def _waiting(connection: sa.Connection, position: int) -> tuple[int, int | None]:
    table = schema.inbox
    query = sa.select(sa.func.count(), sa.func.min(table.c.arrive_ms)).where(
        table.c.inbox_id > position
    )
    count, since_ms = connection.execute(query).one()
    return int(count), None if since_ms is None else int(since_ms)


def _family(name: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _single(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, _BY_NAME[name].help, value=value)
