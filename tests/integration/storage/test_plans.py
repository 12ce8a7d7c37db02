"""Queries of the hot path find their rows by an index, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lastunit.account import _tables as accounts
from lastunit.account import aging, calls, claim_rules, person_events, real_names
from lastunit.account import trees as account_trees
from lastunit.account.keys import VersionDigest
from lastunit.order import early, store
from lastunit.order import refunds as order_refunds
from lastunit.order import schema as orders
from lastunit.order import views as order_views
from lastunit.order.v1 import order_service_pb2 as order_pb
from lastunit.payment import attempts, inbox, outbox, positions, reconciler, refunds
from lastunit.payment import schema as payments
from lastunit.payment import views as payment_views
from lastunit.payment.v1 import payment_service_pb2 as payment_pb
from lastunit.service.database import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Query = Callable[[sa.Connection], object]

# What a running service asks again and again, or for each call of a buyer.
ORDER_QUERIES: dict[str, Query] = {
    "load an order": lambda c: store.load_order(c, "o-1"),
    "load its attempts": lambda c: store.load_attempts(c, "o-1"),
    "follow the ledger": store.load_position,
    "events before their order": lambda c: early.take(c, "o-1", 1),
    "refunds that are due": lambda c: order_refunds.due_refunds(c, 1, 10),
    "returns that are due": lambda c: order_refunds.due_returns(c, 1, 10),
    "orders of an account": lambda c: order_views.list_orders(
        c, order_pb.ListOrdersRequest(account_id="a-1", page_size=10)
    ),
    "orders of a person": lambda c: order_views.list_orders(
        c, order_pb.ListOrdersRequest(person_id="p-1", page_size=10)
    ),
}
PAYMENT_QUERIES: dict[str, Query] = {
    "load an attempt": lambda c: attempts.load(c, "o-1:1"),
    "who may still be paid": lambda c: attempts.open_provider(c, "o-1"),
    "asks that are due": lambda c: c.execute(reconciler._DUE, {"now_ms": 1, "limit": 10}).all(),
    "the next ask": lambda c: c.execute(reconciler._NEXT_ASK).all(),
    "settlements that are due": lambda c: outbox.due_settlements(c, 1, 10),
    "refunds that are due": lambda c: refunds.due(c, 1, 10),
    "the next refund": refunds.next_try_ms,
    "where the inbox is": lambda c: positions.load(c, "inbox"),
    "attempts of an order": lambda c: payment_views.list_attempts(
        c, payment_pb.ListAttemptsRequest(order_id="o-1", page_size=10)
    ),
    "attempts, a page": lambda c: payment_views.list_attempts(
        c, payment_pb.ListAttemptsRequest(page_size=10)
    ),
}
INBOX_QUERIES: dict[str, Query] = {
    "callbacks that came": lambda c: c.execute(
        inbox._READ_AFTER, {"position": 1, "limit": 10}
    ).all(),
}
ACCOUNT_QUERIES: dict[str, Query] = {
    "a person of an account": lambda c: c.execute(
        sa.select(accounts.accounts).where(accounts.accounts.c.account_id.in_(["a-1"]))
    ).all(),
    "a known identifier": lambda c: c.execute(
        sa.select(accounts.identifiers).where(
            accounts.identifiers.c.digest.in_([b"1"]), accounts.identifiers.c.state != "RELEASED"
        )
    ).all(),
    "who counts together": lambda c: account_trees.group_of(c, "p-1"),
    "who became part of whom": lambda c: account_trees.subtree_of(c, "p-1"),
    "accounts of persons": lambda c: account_trees.accounts_of(c, ["p-1"]),
    "whose real name it is": lambda c: real_names.owner_of(c, [VersionDigest(1, b"1")]),
    "an open claim on a person": lambda c: claim_rules.open_claim_on(c, "p-1"),
    "whether one more claim may be": lambda c: claim_rules.quota_ms(c, "p-1", 1),
    "person events": lambda c: person_events.read_after(c, 1, limit=10),
    "claims that are due": lambda c: aging.due_rows(c, accounts.claims.c.due_ms, 1),
    "merges that are due": lambda c: aging.due_rows(c, accounts.merges.c.due_ms, 1),
    "locks that are due": lambda c: aging.due_rows(c, accounts.accounts.c.unlock_ms, 1),
    "a call that was made": lambda c: calls.find(c, "q-1", method="Bind", content={}),
}
ALL = [
    (metadata, name, query)
    for metadata, queries in (
        (orders.ORDER_METADATA, ORDER_QUERIES),
        (payments.PAYMENT_METADATA, PAYMENT_QUERIES),
        (payments.INBOX_METADATA, INBOX_QUERIES),
        (accounts.metadata, ACCOUNT_QUERIES),
    )
    for name, query in queries.items()
]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | sa.URL:
    """An empty database."""
    if request.param == "sqlite":
        return tmp_path / "plans.sqlite"
    url: sa.URL = request.getfixturevalue("postgres_url")
    return url


class Explained:
    """Remembers the plan of every SELECT that a connection runs."""

    def __init__(self, connection: sa.Connection) -> None:
        self.plans: list[str] = []
        self._is_postgres = connection.dialect.name == "postgresql"
        self._is_busy = False
        if self._is_postgres:
            # The tables are empty: a planner would read them from end to end if it may.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            connection.exec_driver_sql("SET LOCAL enable_sort = off")
        sa.event.listen(connection, "before_cursor_execute", self._explain)

    def _explain(self, *context: Any) -> None:
        connection, _, statement, parameters = context[:4]
        if self._is_busy or not statement.lstrip().upper().startswith("SELECT"):
            return
        self._is_busy = True
        words = "EXPLAIN " if self._is_postgres else "EXPLAIN QUERY PLAN "
        rows = connection.exec_driver_sql(words + statement, parameters).all()
        self._is_busy = False
        self.plans.append("\n".join(str(row[-1 if not self._is_postgres else 0]) for row in rows))


def scans(plan: str) -> Iterator[str]:
    """Yields the lines of a plan that read a table from end to end."""
    for line in plan.splitlines():
        text = line.strip()
        is_table_read = "Seq Scan" in text or (
            text.startswith("SCAN ") and "USING" not in text and "(subquery" not in text
        )
        if is_table_read:
            yield text


@pytest.mark.parametrize(
    ("metadata", "name", "query"), ALL, ids=[name.replace(" ", "-") for _, name, _ in ALL]
)
def test_a_query_of_the_hot_path_reads_no_table_from_end_to_end(
    place: Path | sa.URL, metadata: sa.MetaData, name: str, query: Query
) -> None:
    """The plan of each of its statements has an index for each table."""
    with (
        Database(place, metadata, is_flushed=False, is_threaded=False) as database,
        database.engine.connect() as connection,
    ):
        explained = Explained(connection)
        query(connection)
        connection.rollback()
    found = [line for plan in explained.plans for line in scans(plan)]

    assert explained.plans, f"{name} runs no SELECT"
    assert found == [], "\n".join(explained.plans)


def test_a_query_without_an_index_is_found_out(place: Path | sa.URL) -> None:
    """The test above can fail: nothing is indexed by the currency."""
    table = orders.orders
    with (
        Database(place, orders.ORDER_METADATA, is_flushed=False) as database,
        database.engine.connect() as connection,
    ):
        explained = Explained(connection)
        connection.execute(sa.select(table).where(table.c.currency == "CNY")).all()
        connection.rollback()

    assert [line for plan in explained.plans for line in scans(plan)]
