"""Refund in parts and keep every cause."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from lastunit.service.sql import ROW_ID

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the new tables and moves what the old ones say into them."""
    _make_bills_and_incidents()
    _move_transitions()
    with op.batch_alter_table("attempts") as attempts:
        for column in ("failure_step", "billed_import"):
            attempts.add_column(sa.Column(column, sa.Text(), nullable=False, server_default=""))
        attempts.add_column(
            sa.Column("is_refund_due", sa.Boolean(), nullable=False, server_default=sa.false())
        )
        attempts.create_index("ix_attempts_paid", ["provider", "occurred_ms", "attempt_id"])
        attempts.create_index("ix_attempts_start", ["start_ms", "attempt_id"])
    _move_refunds()


def _make_bills_and_incidents() -> None:
    op.create_table(
        "bill_imports",
        sa.Column("import_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("is_compare_only", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("page_number", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.Column("sums", sa.Text(), nullable=False),
        sa.Column("last_answer", sa.LargeBinary(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("import_id"),
    )
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("refund_key", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("expected_minor", sa.BigInteger(), nullable=False),
        sa.Column("expected_currency", sa.Text(), nullable=False),
        sa.Column("found_minor", sa.BigInteger(), nullable=False),
        sa.Column("found_currency", sa.Text(), nullable=False),
        sa.Column("first_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_source", sa.Text(), nullable=False),
        sa.Column("seen_count", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("refund_id", sa.Text(), nullable=False),
        sa.Column("resolve_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index("ix_incidents_attempt_id", "incidents", ["attempt_id"])
    op.create_index("ix_incidents_seen", "incidents", ["first_seen_ms", "incident_id"])
    op.create_index("ix_incidents_state", "incidents", ["state", "kind"])


def _move_transitions() -> None:
    op.create_table(
        "transitions",
        sa.Column(
            "transition_id",
            ROW_ID,
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state_from", sa.Text(), nullable=False),
        sa.Column("state_to", sa.Text(), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transition_id"),
    )
    op.create_index("ix_transitions_entity", "transitions", ["entity", "entity_id"])
    op.create_index("ix_transitions_order", "transitions", ["order_id", "transition_id"])
    op.execute("""
        INSERT INTO transitions (entity, entity_id, attempt_id, order_id, event, state_from,
            state_to, effect, cause, actor, time_ms)
        SELECT 'attempt', attempt_news.attempt_id, attempt_news.attempt_id, attempts.order_id,
            news, state_from, state_to, effect, source, '', time_ms
        FROM attempt_news JOIN attempts ON attempts.attempt_id = attempt_news.attempt_id
        ORDER BY news_id
    """)
    op.drop_table("attempt_news")


def _move_refunds() -> None:
    op.drop_index("ix_refunds_next_try_ms", "refunds")
    op.rename_table("refunds", "old_refunds")
    op.create_table(
        "refunds",
        sa.Column("refund_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("asked_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("refund_no", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=False),
        sa.Column("next_try_ms", sa.BigInteger(), nullable=True),
        sa.Column("silence_count", sa.Integer(), nullable=False),
        sa.Column("ask_count", sa.Integer(), nullable=False),
        sa.Column("refusal_count", sa.Integer(), nullable=False),
        sa.Column("billed_import", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("refund_id"),
        sa.UniqueConstraint("request_id"),
    )
    op.create_index("ix_refunds_attempt_id", "refunds", ["attempt_id"])
    op.create_index("ix_refunds_next_try_ms", "refunds", ["next_try_ms"])
    op.create_index("ix_refunds_done", "refunds", ["provider", "done_ms", "refund_id"])
    # The id was the key at the provider, so that what is under way is not begun a second time.
    op.execute("""
        INSERT INTO refunds (refund_id, request_id, attempt_id, order_id, provider, amount_minor,
            asked_minor, currency, reason, actor, state, refund_no, failure_code, create_ms,
            update_ms, done_ms, next_try_ms, silence_count, ask_count, refusal_count, billed_import)
        SELECT old.attempt_id || '\\:refund', 'due/' || old.attempt_id, old.attempt_id,
            attempts.order_id, attempts.provider, old.amount_minor, 0, old.currency, '', '',
            old.state, old.refund_no, '', old.create_ms, old.create_ms,
            CASE WHEN old.state = 'DONE' THEN old.create_ms ELSE 0 END,
            CASE WHEN old.state = 'DONE' THEN NULL ELSE old.next_try_ms END,
            0, 0, old.refusal_count, ''
        FROM old_refunds AS old JOIN attempts ON attempts.attempt_id = old.attempt_id
    """)
    # Money that the ledger owes and has not heard of yet.
    op.execute("""
        UPDATE attempts SET is_refund_due = true WHERE state <> 'QUARANTINED' AND attempt_id IN (
            SELECT attempt_id FROM old_refunds WHERE NOT is_recorded
        )
    """)
    op.execute("""
        INSERT INTO settlements (request_id, attempt_id, reservation_id, payment_result,
            occurred_ms, evidence, create_ms, next_try_ms, try_count, outcome, attempt_state)
        SELECT old.attempt_id || '\\:refunded', old.attempt_id, old.reservation_id, 'REFUNDED',
            old.create_ms, 'refund ' || old.refund_no, old.create_ms, old.create_ms, 0, '', ''
        FROM old_refunds AS old JOIN attempts ON attempts.attempt_id = old.attempt_id
        WHERE old.state = 'DONE' AND NOT old.is_recorded AND attempts.state <> 'QUARANTINED'
    """)
    op.drop_table("old_refunds")
