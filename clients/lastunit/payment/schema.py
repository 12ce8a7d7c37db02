"""The tables of the payment service.

Owns columns and indexes; two files: `payment` is written by the payment service alone, `inbox`
by the webhook alone, so neither ever waits for the other's lock. Must not hold rules.
Next: `lastunit.payment.attempts`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = [
    "INBOX_METADATA",
    "PAYMENT_METADATA",
    "attempt_news",
    "attempts",
    "cursors",
    "inbox",
    "orphans",
    "refunds",
    "settlements",
]

PAYMENT_METADATA: Final = sa.MetaData()
INBOX_METADATA: Final = sa.MetaData()

attempts: Final = sa.Table(
    "attempts",
    PAYMENT_METADATA,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("reservation_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    # 0 marks an attempt that the ledger knows and nobody started; it can only be closed.
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("provider_no", sa.Text, nullable=False, default=""),
    sa.Column("pay_url", sa.Text, nullable=False, default=""),
    sa.Column("paid_amount_minor", sa.BigInteger, nullable=False, default=0),
    sa.Column("paid_currency", sa.Text, nullable=False, default=""),
    sa.Column("failure_code", sa.Text, nullable=False, default=""),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("settle_by_ms", sa.BigInteger, nullable=False),
    # Null once the provider has said its last word.
    sa.Column("next_ask_ms", sa.BigInteger, index=True),
    sa.Column("ask_count", sa.Integer, nullable=False, default=0),
    sa.Column("is_close_asked", sa.Boolean, nullable=False, default=False),
    sa.Column("occurred_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("provider_version", sa.BigInteger, nullable=False, default=0),
    sa.Column("ignored_count", sa.Integer, nullable=False, default=0),
)

# Every change of an attempt, and everything that was ignored, with its cause.
attempt_news: Final = sa.Table(
    "attempt_news",
    PAYMENT_METADATA,
    sa.Column("news_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("attempt_id", sa.Text, nullable=False, index=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("news", sa.Text, nullable=False),
    sa.Column("state_from", sa.Text, nullable=False),
    sa.Column("state_to", sa.Text, nullable=False),
    sa.Column("effect", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

# What the ledger has still to be told; the row is written with the change that causes it.
settlements: Final = sa.Table(
    "settlements",
    PAYMENT_METADATA,
    sa.Column("settlement_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("attempt_id", sa.Text, nullable=False, index=True),
    sa.Column("reservation_id", sa.Text, nullable=False),
    sa.Column("payment_result", sa.Text, nullable=False),
    sa.Column("occurred_ms", sa.BigInteger, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    # Null once the ledger has answered OK.
    sa.Column("next_try_ms", sa.BigInteger, index=True),
    sa.Column("try_count", sa.Integer, nullable=False, default=0),
    sa.Column("outcome", sa.Text, nullable=False, default=""),
    sa.Column("attempt_state", sa.Text, nullable=False, default=""),
)

refunds: Final = sa.Table(
    "refunds",
    PAYMENT_METADATA,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("reservation_id", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("refund_no", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    # Null once it is recorded in the ledger, or when a human has to decide.
    sa.Column("next_try_ms", sa.BigInteger, index=True),
    sa.Column("try_count", sa.Integer, nullable=False, default=0),
    sa.Column("refusal_count", sa.Integer, nullable=False, default=0),
    sa.Column("is_recorded", sa.Boolean, nullable=False, default=False),
)

# Signed news of attempts we do not know: money somebody has to look for.
orphans: Final = sa.Table(
    "orphans",
    PAYMENT_METADATA,
    sa.Column("orphan_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("attempt_id", sa.Text, nullable=False, index=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("provider", "event_id"),
)

cursors: Final = sa.Table(
    "cursors",
    PAYMENT_METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

inbox: Final = sa.Table(
    "inbox",
    INBOX_METADATA,
    # Never reused and given out inside the write lock, so it is the order of arrival.
    sa.Column("inbox_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("raw_body", sa.LargeBinary, nullable=False),
    sa.Column("arrive_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("provider", "event_id"),
    sqlite_autoincrement=True,
)
