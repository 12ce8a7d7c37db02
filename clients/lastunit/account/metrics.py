"""What the account service shows of itself at `/metrics`, beside its calls and databases.

Owns the table of these metrics and the looks behind them. Must not label anything with a person or
an account. docs/reference/metrics.md is made from the table. Next: `lastunit.service.metrics`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lastunit.account import _tables, notices, person_events
from lastunit.account.states import ClaimState
from lastunit.service.metrics import Family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from lastunit.account.feeding import LedgerFeeder
    from lastunit.account.gate import Bucket
    from lastunit.account.resolving import Directory
    from lastunit.service.database import Database

__all__ = ["METRICS", "AccountMetrics"]

_OF_PERSONS: Final = (
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
    Family(
        "lastunit_account_let_in_total",
        "counter",
        "Sign-ups and logins that their bucket let in.",
        ("bucket",),
    ),
    Family(
        "lastunit_account_shed_total",
        "counter",
        "Sign-ups and logins that were told to come back later.",
        ("bucket",),
    ),
    Family(
        "lastunit_account_notices_waiting",
        "gauge",
        "Notices to identifiers that are not sent yet.",
    ),
)
_CLAIMS: Final = Family(
    "lastunit_account_claims",
    "gauge",
    "Claims on persons by how far they are; WAITING and APPROVED ones are not decided.",
    ("state",),
)
METRICS: Final = (
    *_OF_PERSONS,
    _CLAIMS,
    Family(
        "lastunit_account_disputed_claims_total",
        "counter",
        "Claims that an owner objected to since the process started; look at each.",
    ),
)
_BY_NAME: Final = {family.name: family for family in METRICS}


class AccountMetrics(Collector):
    """Looks at the database at each scrape.

    Args:
        database: The account service's tables.
        directory: Resolves accounts.
        feeder: Tells the ledger.
        buckets: Let sign-ups and logins in.
        disputed_count: Says how many claims an owner has objected to.
    """

    def __init__(
        self,
        *,
        database: Database,
        directory: Directory,
        feeder: LedgerFeeder,
        buckets: Sequence[Bucket],
        disputed_count: Callable[[], int],
    ) -> None:
        self._buckets = tuple(buckets)
        self._disputed_count = disputed_count
        self._database = database
        self._directory = directory
        self._feeder = feeder

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        told = self._feeder.position()
        with self._database.read() as connection:
            last = person_events.last_sequence(connection)
            notices_waiting = notices.waiting_count(connection)
            by_state = _claims_by_state(connection)
        values: dict[str, float] = {
            "lastunit_account_person_events": last,
            "lastunit_account_ledger_waiting_events": max(0, last - told),
            "lastunit_account_ledger_refusals_total": self._feeder.refusal_count,
            "lastunit_account_notices_waiting": notices_waiting,
            "lastunit_account_disputed_claims_total": self._disputed_count(),
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
        for name in ("lastunit_account_let_in_total", "lastunit_account_shed_total"):
            family = _BY_NAME[name]
            by_bucket = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for bucket in self._buckets:
                is_shed = name == "lastunit_account_shed_total"
                count = bucket.shed_count if is_shed else bucket.let_in_count
                by_bucket.add_metric([bucket.name], count)
            yield by_bucket
        claims = GaugeMetricFamily(_CLAIMS.name, _CLAIMS.help, labels=_CLAIMS.labels)
        for state in ClaimState:
            if state not in (ClaimState.NONE, ClaimState.OPENED):
                claims.add_metric([state.value], by_state.get(state.value, 0))
        yield claims


def _claims_by_state(connection: sa.Connection) -> Mapping[str, int]:
    table = _tables.claims
    query = sa.select(table.c.state, sa.func.count().label("number")).group_by(table.c.state)
    return {row.state: row.number for row in connection.execute(query)}
