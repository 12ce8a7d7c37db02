"""The tables of the order service.

Owns columns and indexes, and which tables are sources and which are projections. Must not hold
rules. Next: `lastunit.order.store`.

A source holds what nobody else knows: who ordered what at which price, and what was asked of this
service. A projection is the fold of the ledger's events and of the facts: `lastunit order rebuild`
makes it anew.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from lastunit.service.migrations import migrated

__all__ = [
    "ORDER_METADATA",
    "PROJECTIONS",
    "attempt_states",
    "cursors",
    "early_events",
    "order_attempts",
    "order_facts",
    "order_refunds",
    "order_returns",
    "order_states",
    "order_transitions",
    "orders",
    "person_accounts",
    "pressures",
]

ORDER_METADATA: Final = sa.MetaData(info=migrated("order", "lastunit.order.migrations"))

# Source: written once, when the units are held, and never changed.
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
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    # When the units might lapse as it was told first.
    sa.Column("hold_expire_ms", sa.BigInteger, nullable=False),
    # The event of the ledger that held the units.
    sa.Column("create_sequence", sa.BigInteger, nullable=False),
)

# Projection: where each order stands.
order_states: Final = sa.Table(
    "order_states",
    ORDER_METADATA,
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("close_reason", sa.Text, nullable=False, default=""),
    sa.Column("is_overdue", sa.Boolean, nullable=False, default=False),
    sa.Column("is_cancel_asked", sa.Boolean, nullable=False, default=False),
    sa.Column("is_retaken", sa.Boolean, nullable=False, default=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=False),
    sa.Column("settle_by_ms", sa.BigInteger),
    sa.Column("fulfilment_state", sa.Text, nullable=False),
    # The last event of the ledger that this row shows; older ones are known.
    sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
    # How many transitions it has, and how many facts it shows.
    sa.Column("transition_count", sa.Integer, nullable=False),
    sa.Column("fact_count", sa.Integer, nullable=False, default=0),
)

# Source: the number that a request to pay was given.
order_attempts: Final = sa.Table(
    "order_attempts",
    ORDER_METADATA,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("order_id", "request_id"),
    sa.UniqueConstraint("order_id", "number"),
)

# Projection: what the ledger says of each attempt, also of one that it learnt of elsewhere.
attempt_states: Final = sa.Table(
    "attempt_states",
    ORDER_METADATA,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    # When the ledger told of it first, and the event.
    sa.Column("begin_ms", sa.BigInteger, nullable=False),
    sa.Column("begin_sequence", sa.BigInteger, nullable=False),
)

# Projection: every move of every order, numbered from 1 for each.
order_transitions: Final = sa.Table(
    "order_transitions",
    ORDER_METADATA,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    # Which machine moved: `order` or `fulfilment`.
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state_from", sa.Text, nullable=False),
    sa.Column("state_to", sa.Text, nullable=False),
    # What made it move, see `lastunit.order.moves.CauseKind`, and its id there.
    sa.Column("cause_kind", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # The ledger's event; 0 where the ledger was not concerned.
    sa.Column("ledger_sequence", sa.BigInteger, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

# Source: the moves that the ledger knows nothing of, numbered from 1 for each order.
order_facts: Final = sa.Table(
    "order_facts",
    ORDER_METADATA,
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("cause_kind", sa.Text, nullable=False),
    # For a call its request's id, by which a repeat is known.
    sa.Column("cause", sa.Text, nullable=False),
    # JSON: the content of the call, compared if it is repeated.
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # The last event of the ledger that the order had seen: tells a rebuild what came first.
    sa.Column("after_sequence", sa.BigInteger, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

# Source: money that goes back. The row is written with the fact, before anybody is told.
order_refunds: Final = sa.Table(
    "order_refunds",
    ORDER_METADATA,
    # Also the refund's request id at the payment service.
    sa.Column("refund_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("attempt_id", sa.Text, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    # JSON: each part's share, in the order of the parts; they sum to the amount.
    sa.Column("shares", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    # True: nothing is left of what was paid.
    sa.Column("is_full", sa.Boolean, nullable=False),
    # True: the units never left, so they go back to the sale once the money has.
    sa.Column("gives_back", sa.Boolean, nullable=False),
    # ASKED until the payment service says DONE; GIVING_BACK until the units are back.
    sa.Column("state", sa.Text, nullable=False),
    # Why it was not done at the last try; empty if it was.
    sa.Column("last_refusal", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("done_ms", sa.BigInteger),
    sa.Column("try_count", sa.Integer, nullable=False, default=0),
    # Null once nothing is left to do.
    sa.Column("next_try_ms", sa.BigInteger, index=True),
    sa.UniqueConstraint("order_id", "request_id"),
    sa.UniqueConstraint("order_id", "number"),
)

# Source: goods that came back, one row for each SKU and pool of a request.
order_returns: Final = sa.Table(
    "order_returns",
    ORDER_METADATA,
    # Also the return's request id at the ledger.
    sa.Column("return_id", sa.Text, primary_key=True),
    sa.Column("order_id", sa.Text, sa.ForeignKey("orders.order_id"), nullable=False, index=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("sku", sa.Text, nullable=False),
    # Empty: the units that were taken last come back first.
    sa.Column("pool", sa.Text, nullable=False),
    sa.Column("units", sa.BigInteger, nullable=False),
    sa.Column("disposition", sa.Text, nullable=False),
    # ASKED, then DONE or REFUSED by the ledger.
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("last_refusal", sa.Text, nullable=False, default=""),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("done_ms", sa.BigInteger),
    sa.Column("try_count", sa.Integer, nullable=False, default=0),
    # Null once nothing is left to do.
    sa.Column("next_try_ms", sa.BigInteger, index=True),
)

# Projection: events that came before the row of their order, which a crash may have cut off.
early_events: Final = sa.Table(
    "early_events",
    ORDER_METADATA,
    sa.Column("order_id", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, index=True),
    # The event, as the bytes of its message.
    sa.Column("body", sa.LargeBinary, nullable=False),
)

# The place in the journal goes with the projections; the count of starts is a source.
cursors: Final = sa.Table(
    "cursors",
    ORDER_METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

# What the account service says of accounts whose person has changed; the others are still of the
# person that they were made with. Made anew from its events if it loses some.
person_accounts: Final = sa.Table(
    "person_accounts",
    ORDER_METADATA,
    sa.Column("account_id", sa.Text, primary_key=True),
    # The live person.
    sa.Column("person_id", sa.Text, nullable=False, index=True),
    # Of the answer; an older one changes nothing.
    sa.Column("version", sa.BigInteger, nullable=False),
)

# What each process measures, for the one that reports to the ledger; used on PostgreSQL only.
pressures: Final = sa.Table(
    "pressures",
    ORDER_METADATA,
    sa.Column("process_id", sa.Text, primary_key=True),
    sa.Column("persisted_count", sa.BigInteger, nullable=False),
    sa.Column("queue_count", sa.BigInteger, nullable=False),
    sa.Column("work_per_second_milli", sa.BigInteger, nullable=False),
    sa.Column("work_per_order_milli", sa.BigInteger, nullable=False),
    sa.Column("oldest_wait_ms", sa.BigInteger, nullable=False),
    sa.Column("update_ms", sa.BigInteger, nullable=False),
)

PROJECTIONS: Final = (order_states, attempt_states, order_transitions, early_events)
"""What may be deleted: a rebuild makes it from the ledger's events and the other tables."""
