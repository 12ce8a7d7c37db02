"""The tables of the first version of the payment database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lastunit.service.sql import ROW_ID

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    _make_attempts()
    _make_what_follows()
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
    )


def _make_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("attempt_id", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, nullable=False, index=True),
        sa.Column("reservation_id", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("provider_no", sa.Text, nullable=False),
        sa.Column("pay_url", sa.Text, nullable=False),
        sa.Column("paid_amount_minor", sa.BigInteger, nullable=False),
        sa.Column("paid_currency", sa.Text, nullable=False),
        sa.Column("failure_code", sa.Text, nullable=False),
        sa.Column("start_ms", sa.BigInteger, nullable=False),
        sa.Column("settle_by_ms", sa.BigInteger, nullable=False),
        sa.Column("next_ask_ms", sa.BigInteger, index=True),
        sa.Column("ask_count", sa.Integer, nullable=False),
        sa.Column("is_close_asked", sa.Boolean, nullable=False),
        sa.Column("occurred_ms", sa.BigInteger, nullable=False),
        sa.Column("provider_version", sa.BigInteger, nullable=False),
        sa.Column("ignored_count", sa.Integer, nullable=False),
    )
    op.create_table(
        "attempt_news",
        sa.Column("news_id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("attempt_id", sa.Text, nullable=False, index=True),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("news", sa.Text, nullable=False),
        sa.Column("state_from", sa.Text, nullable=False),
        sa.Column("state_to", sa.Text, nullable=False),
        sa.Column("effect", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
    )


def _make_what_follows() -> None:
    op.create_table(
        "settlements",
        sa.Column("settlement_id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.Text, nullable=False, unique=True),
        sa.Column("attempt_id", sa.Text, nullable=False, index=True),
        sa.Column("reservation_id", sa.Text, nullable=False),
        sa.Column("payment_result", sa.Text, nullable=False),
        sa.Column("occurred_ms", sa.BigInteger, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("next_try_ms", sa.BigInteger, index=True),
        sa.Column("try_count", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("attempt_state", sa.Text, nullable=False),
    )
    op.create_table(
        "refunds",
        sa.Column("attempt_id", sa.Text, primary_key=True),
        sa.Column("reservation_id", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("refund_no", sa.Text, nullable=False),
        sa.Column("create_ms", sa.BigInteger, nullable=False),
        sa.Column("next_try_ms", sa.BigInteger, index=True),
        sa.Column("try_count", sa.Integer, nullable=False),
        sa.Column("refusal_count", sa.Integer, nullable=False),
        sa.Column("is_recorded", sa.Boolean, nullable=False),
    )
    op.create_table(
        "orphans",
        sa.Column("orphan_id", ROW_ID, primary_key=True, autoincrement=True),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("attempt_id", sa.Text, nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("provider", "event_id"),
    )
