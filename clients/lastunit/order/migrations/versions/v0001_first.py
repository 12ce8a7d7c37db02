"""The tables of the first version of the order database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lastunit.service.sql import ROW_ID

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "orders",
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("account_id", sa.Text, nullable=False, index=True),
        sa.Column("person_id", sa.Text, nullable=False, index=True),
        sa.Column("sale_id", sa.Text, nullable=False),
        sa.Column("lines", sa.Text, nullable=False),
        sa.Column("parts", sa.Text, nullable=False),
        sa.Column("coupon_id", sa.Text, nullable=False),
        sa.Column("reduction_name", sa.Text, nullable=False),
        sa.Column("missing_gifts", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("close_reason", sa.Text, nullable=False),
        sa.Column("is_overdue", sa.Boolean, nullable=False),
        sa.Column("is_cancel_asked", sa.Boolean, nullable=False),
        sa.Column("is_retaken", sa.Boolean, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("expire_ms", sa.BigInteger, nullable=False),
        sa.Column("settle_by_ms", sa.BigInteger),
        sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "order_attempts",
        sa.Column("attempt_id", sa.Text, primary_key=True),
        sa.Column(
            "order_id", sa.Text, sa.ForeignKey("orders.order_id"), nullable=False, index=True
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("order_id", "request_id"),
        sa.UniqueConstraint("order_id", "number"),
    )
    op.create_table(
        "order_transitions",
        sa.Column("transition_id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("order_id", sa.Text, nullable=False, index=True),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("state_from", sa.Text, nullable=False),
        sa.Column("state_to", sa.Text, nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
