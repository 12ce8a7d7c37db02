"""The tables of the order service.

Owns columns and indexes. Must not hold rules. Next: `lastunit.order.store`.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = ["ORDER_METADATA", "cursors", "order_attempts", "order_transitions", "orders"]

ORDER_METADATA: Final = sa.MetaData()

orders: Final = sa.Table(
    "orders",
    ORDER_METADATA,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("account_id", sa.Text, nullable=False, index=True),
    sa.Column("person_id", sa.Text, nullable=False, index=True),
    sa.Column("sale_id", sa.Text, nullable=False),
    # JSON: at most 32 lines that are written once and only ever read together.
    sa.Column("lines", sa.Text, nullable=False),
    # JSON: what the units cost, pool by pool; written once, as the price must never change again.
    sa.Column("parts", sa.Text, nullable=False),
    sa.Column("coupon_id", sa.Text, nullable=False),
    sa.Column("reduction_name", sa.Text, nullable=False),
    # JSON: a list of SKUs.
    sa.Column("missing_gifts", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("close_reason", sa.Text, nullable=False, default=""),
    sa.Column("is_overdue", sa.Boolean, nullable=False, default=False),
    sa.Column("is_cancel_asked", sa.Boolean, nullable=False, default=False),
    sa.Column("is_retaken", sa.Boolean, nullable=False, default=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=False),
    sa.Column("settle_by_ms", sa.BigInteger),
    # The last event of the ledger that this row shows; older ones are known.
    sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
)

order_attempts: Final = sa.Table(
    "order_attempts",
    ORDER_METADATA,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    # Empty until the ledger says that it was begun.
    sa.Column("state", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("order_id", "request_id"),
    sa.UniqueConstraint("order_id", "number"),
)

order_transitions: Final = sa.Table(
    "order_transitions",
    ORDER_METADATA,
    sa.Column("transition_id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state_from", sa.Text, nullable=False),
    sa.Column("state_to", sa.Text, nullable=False),
    # The ledger's sequence, and who or what caused it there.
    sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

cursors: Final = sa.Table(
    "cursors",
    ORDER_METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)
