"""The tables of the account service.

Owns the schema. Must not hold an identifier in plain text in any column.
Next: `lastunit.account.core`.
"""

from __future__ import annotations

import sqlalchemy as sa

from lastunit.service.migrations import migrated

__all__ = ["accounts", "facts", "metadata", "requests"]

metadata = sa.MetaData(info=migrated("account", "lastunit.account.migrations"))

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("state", sa.Integer, nullable=False),
    sa.Column("identifier_digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("masked_identifier", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("identifier_digest", sa.LargeBinary, nullable=False),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id"), nullable=False),
    sa.Column("is_created", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# What the service must remember of itself, such as which key its digests were made with.
facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
