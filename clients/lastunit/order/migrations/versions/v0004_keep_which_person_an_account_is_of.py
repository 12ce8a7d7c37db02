"""Keep which person an account is of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Keep which person an account is of."""
    op.create_table(
        "person_accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
    )
    with op.batch_alter_table("person_accounts", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_person_accounts_person_id"), ["person_id"], unique=False
        )
