"""What the account service shows of itself at `/metrics`, beside its calls and databases.

Owns the table of these metrics and the looks behind them. Must not label anything with a person or
an account. docs/reference/metrics.md is made from the table. Next: `lastunit.service.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lastunit.account import person_events
from lastunit.service.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit.account.feeding import LedgerFeeder
    from lastunit.account.resolving import Directory
    from lastunit.service.database import Database

__all__ = ["METRICS", "AccountMetrics"]

METRICS: Final = (
    Family(
        "lastunit_account_resolved_total",
        "counter",
        "Accounts that ResolvePerson answered, by where the answer was.",
        ("source",),
    ),
    Family(
        "lastunit_account_person_events",
        "gauge",
        "Changes of persons since the database was made; WatchPersons streams them.",
    ),
    Family(
        "lastunit_account_ledger_waiting_events",
        "gauge",
        "Changes of persons that the ledger has not been told of; callers wait for them.",
    ),
    Family(
        "lastunit_account_ledger_refusals_total",
        "counter",
        "Changes of persons that the ledger refused: it knows others than it was told of.",
    ),
)
_BY_NAME: Final = {family.name: family for family in METRICS}


class AccountMetrics(Collector):
    """Looks at the database at each scrape.

    Args:
        database: The account service's tables.
        directory: Resolves accounts.
        feeder: Tells the ledger.
    """

    def __init__(self, *, database: Database, directory: Directory, feeder: LedgerFeeder) -> None:
        self._database = database
        self._directory = directory
        self._feeder = feeder

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        told = self._feeder.position()
        with self._database.read() as connection:
            last = person_events.last_sequence(connection)
        values: dict[str, float] = {
            "lastunit_account_person_events": last,
            "lastunit_account_ledger_waiting_events": max(0, last - told),
            "lastunit_account_ledger_refusals_total": self._feeder.refusal_count,
        }
        for name, value in values.items():
            kind: Any = CounterMetricFamily
            if _BY_NAME[name].kind == "gauge":
                kind = GaugeMetricFamily
            yield kind(name, _BY_NAME[name].help, value=value)
        resolved = _BY_NAME["lastunit_account_resolved_total"]
        counted = CounterMetricFamily(resolved.name, resolved.help, labels=resolved.labels)
        counted.add_metric(["memory"], self._directory.hit_count)
        counted.add_metric(["database"], self._directory.miss_count)
        yield counted
