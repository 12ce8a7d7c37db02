"""SQL that SQLite and PostgreSQL take alike.

Owns what the two spell differently, so that no service names a database. Must not know any table.
Next: `lastunit.service.database`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROW_ID", "greatest", "insert", "insert_new", "total"]

ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""Type of a primary key that counts by itself: 64 bits wide on both."""


def insert(connection: sa.Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Returns an INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`.

    Args:
        connection: Tells which database it is for.
        table: Where to.
    """
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def insert_new(connection: sa.Connection, table: sa.Table, values: Mapping[str, object]) -> bool:
    """Inserts a row unless one with the same key, any of its unique ones, is there.

    Args:
        connection: Inside a transaction.
        table: Where to.
        values: The columns.

    Returns:
        True if the row was inserted.
    """
    # Inline: nobody asks for the number that a counting key got. Without the option SQLAlchemy
    # forgets PostgreSQL's count of an INSERT.
    statement = insert(connection, table).on_conflict_do_nothing().inline()
    counted = statement.execution_options(preserve_rowcount=True)
    return connection.execute(counted, values).rowcount > 0


def greatest(first: sa.ColumnElement[int], second: sa.ColumnElement[int]) -> sa.Case[int]:
    """Returns the larger of two values that are never null."""
    return sa.case((first >= second, first), else_=second)


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Returns the sum of a whole-numbered column, 0 without rows; always an `int`."""
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
