"""The tables of the payment service.

Owns columns and indexes; two files: `payment` is written by the payment service alone, `inbox`
by the webhook alone, so neither ever waits for the other's lock. Must not hold rules.
Next: `lastunit.payment.attempts`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from lastunit.service.migrations import migrated
from lastunit.service.sql import ROW_ID

__all__ = [
    "INBOX_METADATA",
    "PAYMENT_METADATA",
    "attempts",
    "bill_imports",
    "cursors",
    "inbox",
    "incidents",
    "orphans",
    "refunds",
    "settlements",
    "transitions",
]

PAYMENT_METADATA: Final = sa.MetaData(info=migrated("payment", "lastunit.payment.migrations"))
INBOX_METADATA: Final = sa.MetaData(info=migrated("inbox", "lastunit.payment.inbox_migrations"))

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
    # At which step it failed: create, query, close, callback or bill.
    sa.Column("failure_step", sa.Text, nullable=False, default=""),
    # True once the ledger has said that its money is owed back; it then waits for RecordRefund.
    sa.Column("is_refund_due", sa.Boolean, nullable=False, default=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("settle_by_ms", sa.BigInteger, nullable=False),
    # Null once the provider has said its last word.
    sa.Column("next_ask_ms", sa.BigInteger, index=True),
    sa.Column("ask_count", sa.Integer, nullable=False, default=0),
    sa.Column("is_close_asked", sa.Boolean, nullable=False, default=False),
    sa.Column("occurred_ms", sa.BigInteger, nullable=False, default=0),
    sa.Column("provider_version", sa.BigInteger, nullable=False, default=0),
    sa.Column("ignored_count", sa.Integer, nullable=False, default=0),
    # The import of a bill that had a line for it last; empty before.
    sa.Column("billed_import", sa.Text, nullable=False, default=""),
    # A bill is compared with what was paid at a provider on a day.
    sa.Index("ix_attempts_paid", "provider", "occurred_ms", "attempt_id"),
    sa.Index("ix_attempts_start", "start_ms", "attempt_id"),
)

# Every change of an attempt, a refund or a breaker, and all news that was ignored, with its cause.
transitions: Final = sa.Table(
    "transitions",
    PAYMENT_METADATA,
    sa.Column("transition_id", ROW_ID, primary_key=True, autoincrement=True),
    # attempt, refund or breaker.
    sa.Column("entity", sa.Text, nullable=False),
    # Of an attempt, of a refund, or the name of a provider.
    sa.Column("entity_id", sa.Text, nullable=False),
    # Empty for a breaker.
    sa.Column("attempt_id", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    # Empty for the first.
    sa.Column("state_from", sa.Text, nullable=False),
    sa.Column("state_to", sa.Text, nullable=False),
    sa.Column("effect", sa.Text, nullable=False),
    # call, callback, ledger, timer or bill, and which one.
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_transitions_order", "order_id", "transition_id"),
    sa.Index("ix_transitions_entity", "entity", "entity_id"),
)

# What the ledger has still to be told; the row is written with the change that causes it.
settlements: Final = sa.Table(
    "settlements",
    PAYMENT_METADATA,
    sa.Column("settlement_id", ROW_ID, primary_key=True, autoincrement=True),
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
    sa.Column("refund_id", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("attempt_id", sa.Text, nullable=False, index=True),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    # What the request named, to compare a repeat with; 0: all that was left.
    sa.Column("asked_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("refund_no", sa.Text, nullable=False, default=""),
    sa.Column("failure_code", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("update_ms", sa.BigInteger, nullable=False),
    # When it was done by the provider's clock if it told, else by ours; 0 before.
    sa.Column("done_ms", sa.BigInteger, nullable=False, default=0),
    # Null once it is done, or when a human has to decide.
    sa.Column("next_try_ms", sa.BigInteger, index=True),
    # Calls without an answer since the last answer; they set the pause.
    sa.Column("silence_count", sa.Integer, nullable=False, default=0),
    # Answers that it is under way; they set the pause.
    sa.Column("ask_count", sa.Integer, nullable=False, default=0),
    # Refusals; each further try has a key of its own at the provider.
    sa.Column("refusal_count", sa.Integer, nullable=False, default=0),
    # The import of a bill that had a line for it last; empty before.
    sa.Column("billed_import", sa.Text, nullable=False, default=""),
    sa.Index("ix_refunds_done", "provider", "done_ms", "refund_id"),
)

# What a human has to look at; the id follows from what is wrong, so that it is one row.
incidents: Final = sa.Table(
    "incidents",
    PAYMENT_METADATA,
    sa.Column("incident_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("attempt_id", sa.Text, nullable=False, index=True),
    sa.Column("refund_key", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    # What was told, and what the books say.
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("expected_minor", sa.BigInteger, nullable=False),
    sa.Column("expected_currency", sa.Text, nullable=False),
    sa.Column("found_minor", sa.BigInteger, nullable=False),
    sa.Column("found_currency", sa.Text, nullable=False),
    sa.Column("first_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("last_seen_ms", sa.BigInteger, nullable=False),
    sa.Column("last_source", sa.Text, nullable=False),
    sa.Column("seen_count", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    # Who dealt with it, how and why; a decision is one by its request.
    sa.Column("request_id", sa.Text, unique=True),
    sa.Column("resolution", sa.Text, nullable=False, default=""),
    sa.Column("actor", sa.Text, nullable=False, default=""),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("refund_id", sa.Text, nullable=False, default=""),
    sa.Column("resolve_ms", sa.BigInteger, nullable=False, default=0),
    sa.Index("ix_incidents_state", "state", "kind"),
    sa.Index("ix_incidents_seen", "first_seen_ms", "incident_id"),
)

# Bills that were compared with the books, page by page.
bill_imports: Final = sa.Table(
    "bill_imports",
    PAYMENT_METADATA,
    sa.Column("import_id", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("day", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("is_compare_only", sa.Boolean, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("step", sa.Text, nullable=False),
    # The next page, and where it begins: the provider's word, or the last row of ours.
    sa.Column("page_number", sa.Integer, nullable=False),
    sa.Column("cursor", sa.Text, nullable=False),
    # Sums so far as JSON, and the answer to the last page, given again to a repeat.
    sa.Column("sums", sa.Text, nullable=False),
    sa.Column("last_answer", sa.LargeBinary, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("update_ms", sa.BigInteger, nullable=False),
)

# Signed news of attempts we do not know: money somebody has to look for.
orphans: Final = sa.Table(
    "orphans",
    PAYMENT_METADATA,
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
    sa.Column("inbox_id", ROW_ID, primary_key=True, autoincrement=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("raw_body", sa.LargeBinary, nullable=False),
    sa.Column("arrive_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("provider", "event_id"),
    sqlite_autoincrement=True,
)
