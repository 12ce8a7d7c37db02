"""Split sources from projections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the new tables, fills the projections from the old ones, and thins those out."""
    _make_sources()
    _make_projections()
    _fill_projections()
    _number_transitions()
    with op.batch_alter_table("order_attempts") as attempts:
        attempts.drop_column("state")
    with op.batch_alter_table("orders") as orders:
        # The last that is known of the first: what the order showed until now.
        orders.alter_column("expire_ms", new_column_name="hold_expire_ms")
        orders.alter_column("ledger_sequence", new_column_name="create_sequence")
        for column in ("settle_by_ms", "is_cancel_asked", "is_overdue", "close_reason"):
            orders.drop_column(column)
        orders.drop_column("is_retaken")
        orders.drop_column("state")


def _make_sources() -> None:
    op.create_table(
        "order_facts",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("cause_kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("after_sequence", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"]),
        sa.PrimaryKeyConstraint("order_id", "number"),
    )
    op.create_table(
        "order_refunds",
        sa.Column("refund_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("shares", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("is_full", sa.Boolean(), nullable=False),
        sa.Column("gives_back", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_refusal", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=True),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("next_try_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"]),
        sa.PrimaryKeyConstraint("refund_id"),
        sa.UniqueConstraint("order_id", "number"),
        sa.UniqueConstraint("order_id", "request_id"),
    )
    op.create_index("ix_order_refunds_next_try_ms", "order_refunds", ["next_try_ms"])
    op.create_index("ix_order_refunds_order_id", "order_refunds", ["order_id"])
    op.create_table(
        "order_returns",
        sa.Column("return_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("units", sa.BigInteger(), nullable=False),
        sa.Column("disposition", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("last_refusal", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("done_ms", sa.BigInteger(), nullable=True),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("next_try_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"]),
        sa.PrimaryKeyConstraint("return_id"),
    )
    op.create_index("ix_order_returns_next_try_ms", "order_returns", ["next_try_ms"])
    op.create_index("ix_order_returns_order_id", "order_returns", ["order_id"])


def _make_projections() -> None:
    op.create_table(
        "attempt_states",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("begin_ms", sa.BigInteger(), nullable=False),
        sa.Column("begin_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id"),
    )
    op.create_index("ix_attempt_states_order_id", "attempt_states", ["order_id"])
    op.create_table(
        "early_events",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "sequence"),
    )
    op.create_index("ix_early_events_sequence", "early_events", ["sequence"])
    op.create_table(
        "order_states",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("close_reason", sa.Text(), nullable=False),
        sa.Column("is_overdue", sa.Boolean(), nullable=False),
        sa.Column("is_cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("is_retaken", sa.Boolean(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.Column("settle_by_ms", sa.BigInteger(), nullable=True),
        sa.Column("fulfilment_state", sa.Text(), nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger(), nullable=False),
        sa.Column("transition_count", sa.Integer(), nullable=False),
        sa.Column("fact_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"]),
        sa.PrimaryKeyConstraint("order_id"),
    )


def _fill_projections() -> None:
    op.execute("""
        INSERT INTO order_states (order_id, state, close_reason, is_overdue, is_cancel_asked,
            is_retaken, expire_ms, settle_by_ms, fulfilment_state, ledger_sequence,
            transition_count, fact_count)
        SELECT order_id, state, close_reason, is_overdue, is_cancel_asked, is_retaken, expire_ms,
            settle_by_ms, 'UNSHIPPED', ledger_sequence, 1 + (
                SELECT count(*) FROM order_transitions
                WHERE order_transitions.order_id = orders.order_id
            ), 0
        FROM orders
    """)
    op.execute("""
        INSERT INTO attempt_states (attempt_id, order_id, state, begin_ms, begin_sequence)
        SELECT attempt_id, order_id, state, create_ms, 0 FROM order_attempts WHERE state <> ''
    """)


def _number_transitions() -> None:
    op.rename_table("order_transitions", "old_transitions")
    op.create_table(
        "order_transitions",
        sa.Column("order_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state_from", sa.Text(), nullable=False),
        sa.Column("state_to", sa.Text(), nullable=False),
        sa.Column("cause_kind", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("ledger_sequence", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", "number"),
    )
    # The first move was not written down before; who caused the others was not either.
    op.execute("""
        INSERT INTO order_transitions
        SELECT order_id, 1, 'order', 'RESERVED', 'CREATED', 'HELD', 'CALL', request_id, account_id,
            '', 0, create_ms
        FROM orders
    """)
    op.execute("""
        INSERT INTO order_transitions
        SELECT order_id, 1 + row_number() OVER (PARTITION BY order_id ORDER BY transition_id),
            'order', event, state_from, state_to,
            CASE WHEN event = 'COMPARED' THEN 'COMPARISON' ELSE 'LEDGER' END,
            cause, '', '', ledger_sequence, time_ms
        FROM old_transitions
    """)
    op.drop_table("old_transitions")
