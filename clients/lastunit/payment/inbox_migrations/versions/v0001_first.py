"""The tables of the first version of the inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lastunit.service.sql import ROW_ID

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "inbox",
        sa.Column("inbox_id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("raw_body", sa.LargeBinary, nullable=False),
        sa.Column("arrive_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("provider", "event_id"),
        sqlite_autoincrement=True,
    )
