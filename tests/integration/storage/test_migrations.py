"""Revisions: every database is made, taken over, compared and refused as it should be."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from tests.postgres import METADATAS

from lastunit.order import schema as orders
from lastunit.payment import schema as payments
from lastunit.service import migrations
from lastunit.service.database import Database, SchemaVersionError, open_engine, parse_url
from lastunit.service.migrations import SchemaAccessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.postgres import PostgresServer

NAMES = tuple(METADATAS)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | sa.URL]:
    """A database without anything in it."""
    if request.param == "sqlite":
        yield tmp_path / "empty.sqlite"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    with server.empty_database() as name:
        yield parse_url(server.url(name))


def open_database(place: Path | sa.URL, name: str) -> Database:
    """Opens a database as its service does."""
    return Database(place, METADATAS[name], is_flushed=False)


def owner(name: str) -> migrations.Migrations:
    """Returns where the revisions of a database are."""
    found = migrations.migrations_of(METADATAS[name])
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_revisions_make_exactly_the_tables_that_the_program_knows(
    empty: Path | sa.URL, name: str
) -> None:
    """A table or column that was changed without a revision fails here, on both."""
    with open_database(empty, name) as database:
        state = migrations.state(database.engine, owner(name))
        found = migrations.differences(database.engine, METADATAS[name])

    assert state.found == state.newest
    assert found == []


def test_a_change_without_a_revision_is_noticed(empty: Path | sa.URL) -> None:
    """A new column, another type and a missing index are three differences."""
    changed = sa.MetaData(info=METADATAS["inbox"].info)
    table = METADATAS["inbox"].tables["inbox"].to_metadata(changed)
    table.append_column(sa.Column("note", sa.Text))
    table.c.arrive_ms.type = sa.Text()
    table.append_constraint(sa.Index("ix_inbox_note", table.c.arrive_ms))  # type: ignore[arg-type]
    with open_database(empty, "inbox") as database:
        found = " ".join(migrations.differences(database.engine, changed))

    assert "add_column" in found
    assert "modify_type" in found
    assert "ix_inbox_note" in found


@pytest.mark.parametrize("name", NAMES)
def test_processes_that_start_at_once_make_the_tables_once(empty: Path | sa.URL, name: str) -> None:
    """Eight openings of an empty database at the same moment all succeed."""
    barrier = threading.Barrier(8)
    errors: list[BaseException] = []

    def start() -> None:
        barrier.wait(30)
        try:
            open_database(empty, name).close()
        except BaseException as error:  # noqa: BLE001 - shown by the assert below
            errors.append(error)

    starting = [threading.Thread(target=start) for _ in range(8)]
    for thread in starting:
        thread.start()
    for thread in starting:
        thread.join(60)

    assert errors == []


def test_a_newer_database_is_refused(empty: Path | sa.URL) -> None:
    """The error names the database and both versions, and the database stays as it is."""
    with open_database(empty, "order") as database, database.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(SchemaVersionError, match=r"has schema version 9999.*up to 00\d\d"):
        open_database(empty, "order")


def test_a_user_who_may_not_make_the_schema_is_told_what_to_run(
    postgres_server: PostgresServer,
) -> None:
    """With the schema made for it, the same user brings the tables up to date."""
    with postgres_server.empty_database() as name:
        with postgres_server.connect(name) as connection:
            connection.execute("CREATE ROLE shop LOGIN")
        url = parse_url(postgres_server.url(name)).set(username="shop")
        with pytest.raises(SchemaAccessError) as refused:
            open_database(url, "order")
        with postgres_server.connect(name) as connection:
            connection.execute(str(refused.value).partition("run: ")[2])
        open_database(url, "order").close()
        with postgres_server.connect(name) as connection:
            connection.execute("DROP OWNED BY shop")
            connection.execute("DROP ROLE shop")

    assert "CREATE SCHEMA lastunit_order AUTHORIZATION shop" in str(refused.value)


# --- files that were written before there were revisions ---


def old_file(path: Path, name: str, *statements: str) -> None:
    """Writes a file as a program without revisions did: the first tables and a version of 1."""
    engine = open_engine(path)
    with engine.connect() as connection, connection.begin():
        context = MigrationContext.configure(connection)
        with Operations.context(context):
            scripts = migrations._scripts(owner(name))
            first = scripts.get_revision("0001")
            assert first is not None
            first.module.upgrade()
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("PRAGMA user_version = 1")
    engine.dispose()


def rows(database: Database, table: sa.Table) -> list[dict[str, object]]:
    """Returns all rows of a table."""
    with database.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_from_before_revisions_is_taken_over(tmp_path: Path, name: str) -> None:
    """It ends as a new one, and an older program, which looks at user_version, refuses it."""
    path = tmp_path / "old.sqlite"
    old_file(path, name)
    with open_database(path, name) as database:
        found = migrations.differences(database.engine, METADATAS[name])
        with database.read() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    open_database(path, name).close()

    assert found == []
    assert version == 2


def test_orders_of_an_old_file_keep_their_state_and_their_moves(tmp_path: Path) -> None:
    """An order that was paid for is still paid for, and says how it came to that."""
    path = tmp_path / "order.sqlite"
    old_file(
        path,
        "order",
        """INSERT INTO orders VALUES ('o-1', 'q-1', 'a-1', 'p-1', 'flash', '[]', '[]', '', '',
            '[]', 'PAID', '', 0, 0, 1, 84000, 'CNY', 1000, 601000, 901000, 42)""",
        "INSERT INTO order_attempts VALUES ('o-1:1', 'o-1', 1, 'pay-1', 'card', 'APPLIED', 2000)",
        "INSERT INTO order_attempts VALUES ('o-1:2', 'o-1', 2, 'pay-2', 'card', '', 3000)",
        "INSERT INTO order_transitions VALUES (7, 'o-1', 'PAYMENT_BEGUN', 'HELD', 'PAYING', 41, "
        "'o-1:1', 2000)",
        "INSERT INTO order_transitions VALUES (9, 'o-1', 'PAID', 'PAYING', 'PAID', 42, "
        "'o-1:1', 4000)",
        "INSERT INTO cursors VALUES ('journal', 42)",
    )
    with open_database(path, "order") as database:
        (state,) = rows(database, orders.order_states)
        attempts = rows(database, orders.attempt_states)
        numbers = rows(database, orders.order_attempts)
        moves = rows(database, orders.order_transitions)
        cursors = rows(database, orders.cursors)

    assert (state["state"], state["is_retaken"], state["ledger_sequence"]) == ("PAID", True, 42)
    assert state["transition_count"] == 3
    assert [(each["attempt_id"], each["state"]) for each in attempts] == [("o-1:1", "APPLIED")]
    assert [each["number"] for each in numbers] == [1, 2]
    assert [(each["number"], each["event"], each["state_to"]) for each in moves] == [
        (1, "RESERVED", "HELD"),
        (2, "PAYMENT_BEGUN", "PAYING"),
        (3, "PAID", "PAID"),
    ]
    assert cursors == [{"name": "journal", "position": 42}]


def attempt(number: int, state: str) -> str:
    """Returns the insert of an old attempt that was paid."""
    return (
        f"INSERT INTO attempts VALUES ('o-{number}:1', 'o-{number}', 'o-{number}', 'sandbox', "
        f"'card', 100, 'CNY', '{state}', 'p-{number}', '', 100, 'CNY', '', 1, 2, NULL, 0, 0, 1, "
        f"1, 0)"
    )


def refund(number: int, state: str, next_try: str, *, is_recorded: bool = False) -> str:
    """Returns the insert of an old refund."""
    return (
        f"INSERT INTO refunds VALUES ('o-{number}:1', 'o-{number}', 100, 'CNY', '{state}', "
        f"'r-{number}', 5, {next_try}, 1, 0, {int(is_recorded)})"
    )


def test_money_that_an_old_file_owes_is_still_owed_under_the_same_key(tmp_path: Path) -> None:
    """Begun, done and not told, done and told, and out of quarantine: none is lost or doubled."""
    path = tmp_path / "payment.sqlite"
    states = ("SUCCEEDED", "SUCCEEDED", "SUCCEEDED", "QUARANTINED")
    old_file(
        path,
        "payment",
        *(attempt(number, state) for number, state in enumerate(states, start=1)),
        refund(1, "PENDING", "6"),
        refund(2, "DONE", "7"),
        refund(3, "DONE", "NULL", is_recorded=True),
        refund(4, "INIT", "8"),
        "INSERT INTO attempt_news VALUES (1, 'o-1:1', 'callback e-1', 'PAID', 'OPEN', 'SUCCEEDED',"
        " 'SETTLE_SUCCEEDED', 3)",
    )
    with open_database(path, "payment") as database:
        refunds = {str(row["refund_id"]): row for row in rows(database, payments.refunds)}
        due = [row["is_refund_due"] for row in rows(database, payments.attempts)]
        told = rows(database, payments.settlements)
        (move,) = rows(database, payments.transitions)

    assert {key: row["next_try_ms"] for key, row in refunds.items()} == {
        "o-1:1:refund": 6,
        "o-2:1:refund": None,
        "o-3:1:refund": None,
        "o-4:1:refund": 8,
    }
    assert due == [True, True, False, False]
    assert [(row["request_id"], row["next_try_ms"]) for row in told] == [("o-2:1:refunded", 5)]
    assert (move["entity_id"], move["cause"]) == ("o-1:1", "callback e-1")


def test_a_file_of_a_development_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    """It is named, with the columns that are missing, and left as it was."""
    path = tmp_path / "order.sqlite"
    old_file(path, "order", "ALTER TABLE orders DROP COLUMN parts")

    with pytest.raises(SchemaVersionError, match=r"order\.sqlite .* lacks orders\.parts"):
        open_database(path, "order")
    engine = open_engine(path)
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
    engine.dispose()

    assert "order_states" not in tables


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """A version that no program of ours has written is not touched."""
    path = tmp_path / "order.sqlite"
    old_file(path, "order", "PRAGMA user_version = 1")
    engine = open_engine(path)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 77")
    engine.dispose()

    with pytest.raises(SchemaVersionError, match="version 77"):
        open_database(path, "order")
