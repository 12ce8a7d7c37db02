"""Keep persons, identifiers and what joins them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the new tables and takes persons and identifiers out of accounts."""
    _make_persons()
    _make_identifiers()
    _make_ties()
    _make_histories()
    _make_proofs()
    _fill()
    _thin_accounts()


def _make_persons() -> None:
    """Makes what is kept of humans."""
    op.create_table(
        "persons",
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("merged_into", sa.Text(), nullable=True),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("verify_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["merged_into"], ["persons.person_id"]),
        sa.PrimaryKeyConstraint("person_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_persons_merged_into", "persons", ["merged_into"])
    op.create_table(
        "real_names",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["persons.person_id"]),
        sa.PrimaryKeyConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_real_names_person_id", "real_names", ["person_id"])


def _make_identifiers() -> None:
    """Makes what they are reached by."""
    op.create_table(
        "identifiers",
        sa.Column("identifier_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=True),
        sa.Column("masked", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("verify_ms", sa.BigInteger(), nullable=True),
        sa.Column("use_ms", sa.BigInteger(), nullable=True),
        sa.Column("release_ms", sa.BigInteger(), nullable=True),
        sa.Column("change_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"]),
        sa.PrimaryKeyConstraint("identifier_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_identifiers_account_id", "identifiers", ["account_id"])
    op.create_index(
        "ix_identifiers_digest",
        "identifiers",
        ["digest"],
        unique=True,
        sqlite_where=sa.text("state != 'RELEASED'"),
        postgresql_where=sa.text("state != 'RELEASED'"),
    )
    op.create_index("ix_identifiers_key_version", "identifiers", ["key_version"])
    op.create_index("ix_identifiers_release_ms", "identifiers", ["release_ms"])
    op.create_table(
        "notices",
        sa.Column(
            "notice_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("identifier_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("send_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["identifier_id"], ["identifiers.identifier_id"]),
        sa.PrimaryKeyConstraint("notice_id"),
    )
    op.create_index("ix_notices_due_ms", "notices", ["due_ms"])
    op.create_index("ix_notices_identifier_id", "notices", ["identifier_id"])


def _make_ties() -> None:
    """Makes what joins them."""
    op.create_table(
        "unions",
        sa.Column("union_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("owner_person_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["owner_person_id"], ["persons.person_id"]),
        sa.ForeignKeyConstraint(["person_id"], ["persons.person_id"]),
        sa.PrimaryKeyConstraint("union_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_unions_owner_person_id", "unions", ["owner_person_id"])
    op.create_index("ix_unions_person_id", "unions", ["person_id"])
    op.create_table(
        "merges",
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("source_person_id", sa.Text(), nullable=False),
        sa.Column("target_person_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("execute_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("reversible_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("released_identifier_ids", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["source_person_id"], ["persons.person_id"]),
        sa.ForeignKeyConstraint(["target_person_id"], ["persons.person_id"]),
        sa.PrimaryKeyConstraint("merge_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_merges_due_ms", "merges", ["due_ms"])
    op.create_index("ix_merges_source_person_id", "merges", ["source_person_id"])
    op.create_index("ix_merges_target_person_id", "merges", ["target_person_id"])
    op.create_table(
        "claims",
        sa.Column("claim_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("owner_person_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("wait_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("confirm_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("due_ms", sa.BigInteger(), nullable=True),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("merge_id", sa.Text(), nullable=False),
        sa.Column("dead_identifier_ids", sa.Text(), nullable=False),
        sa.Column("told_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"]),
        sa.ForeignKeyConstraint(["owner_person_id"], ["persons.person_id"]),
        sa.ForeignKeyConstraint(["person_id"], ["persons.person_id"]),
        sa.PrimaryKeyConstraint("claim_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_claims_due_ms", "claims", ["due_ms"])
    op.create_index("ix_claims_owner_person_id", "claims", ["owner_person_id"])
    op.create_index("ix_claims_person_id", "claims", ["person_id"])
    op.create_index("ix_claims_state", "claims", ["state", "claim_id"])


def _make_histories() -> None:
    """Makes what is kept of what happened."""
    op.create_table(
        "transitions",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("state_from", sa.Text(), nullable=False),
        sa.Column("state_to", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_transitions_entity_id", "transitions", ["entity_id", "number"])
    op.create_table(
        "person_events",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("person_id", sa.Text(), nullable=False),
        sa.Column("other_person_id", sa.Text(), nullable=False),
        sa.Column("person_ids", sa.Text(), nullable=False),
        sa.Column("account_ids", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "calls",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("event_sequence", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("request_id"),
        sqlite_with_rowid=False,
    )


def _make_proofs() -> None:
    """Makes what logins need."""
    op.create_table(
        "codes",
        sa.Column("code_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Integer(), nullable=False),
        sa.Column("code_digest", sa.LargeBinary(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.Column("try_count", sa.Integer(), nullable=False),
        sa.Column("use_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("code_id"),
    )
    op.create_index("ix_codes_create_ms", "codes", ["create_ms"])
    op.create_index("ix_codes_digest", "codes", ["digest", "create_ms"])
    op.create_table(
        "sessions",
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"]),
        sa.PrimaryKeyConstraint("token_digest"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"])
    op.create_index("ix_sessions_expire_ms", "sessions", ["expire_ms"])
    op.create_table(
        "access_log",
        sa.Column(
            "access_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("access_id"),
    )
    op.create_index("ix_access_log_subject", "access_log", ["subject", "access_id"])
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
        sqlite_with_rowid=False,
    )


def _fill() -> None:
    """Gives each account a person and an identifier.

    What an identifier was is known only by its mask and digest: nobody can be told anything by it
    until its owner logs in again. Nobody has proved it either.
    """
    op.execute(
        "INSERT INTO persons (person_id, state, create_ms) "
        "SELECT person_id, 'PROVISIONAL', create_ms FROM accounts"
    )
    op.execute(
        "INSERT INTO identifiers (identifier_id, account_id, kind, state, key_version, digest, "
        "masked, create_ms, change_ms) "
        "SELECT 'i-' || account_id, account_id, "
        "CASE WHEN masked_identifier LIKE '%@%' THEN 'email' ELSE 'phone' END, 'UNVERIFIED', 1, "
        "identifier_digest, masked_identifier, create_ms, create_ms FROM accounts"
    )


def _thin_accounts() -> None:
    """Every account so far is of a person of its own."""
    with op.batch_alter_table("accounts") as accounts:
        accounts.add_column(sa.Column("home_person_id", sa.Text(), nullable=True))
        accounts.add_column(sa.Column("lock_reason", sa.Text(), nullable=False, server_default=""))
        accounts.add_column(sa.Column("unlock_ms", sa.BigInteger(), nullable=True))
        accounts.add_column(sa.Column("login_ms", sa.BigInteger(), nullable=True))
        accounts.alter_column("state", type_=sa.Text(), postgresql_using="state::text")
        accounts.drop_column("masked_identifier")
        accounts.drop_column("identifier_digest")
    op.execute(
        "UPDATE accounts SET home_person_id = person_id, "
        "state = CASE state WHEN '1' THEN 'ACTIVE' ELSE 'LOCKED' END, "
        "lock_reason = CASE state WHEN '1' THEN '' ELSE 'OPERATOR' END"
    )
    with op.batch_alter_table("accounts") as accounts:
        accounts.alter_column("home_person_id", existing_type=sa.Text(), nullable=False)
        accounts.alter_column("lock_reason", existing_type=sa.Text(), server_default=None)
    op.create_index("ix_accounts_home_person_id", "accounts", ["home_person_id"], unique=True)
    op.create_index("ix_accounts_person_id", "accounts", ["person_id"])
    op.create_index("ix_accounts_unlock_ms", "accounts", ["unlock_ms"])
