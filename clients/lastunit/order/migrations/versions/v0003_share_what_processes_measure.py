"""Share what processes measure."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Share what processes measure."""
    op.create_table(
        "pressures",
        sa.Column("process_id", sa.Text(), nullable=False),
        sa.Column("persisted_count", sa.BigInteger(), nullable=False),
        sa.Column("queue_count", sa.BigInteger(), nullable=False),
        sa.Column("work_per_second_milli", sa.BigInteger(), nullable=False),
        sa.Column("work_per_order_milli", sa.BigInteger(), nullable=False),
        sa.Column("oldest_wait_ms", sa.BigInteger(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("process_id"),
        # Written ten times a second and worth nothing after a crash.
        prefixes=["UNLOGGED"] if op.get_bind().dialect.name == "postgresql" else [],
    )
