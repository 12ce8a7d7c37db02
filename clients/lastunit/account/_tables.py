"""The tables of the account service.

Owns the schema. Must not hold an identifier, a name or a number in plain text in any column.
Next: `lastunit.account.moves`, the only writer of every `state`.
"""

from __future__ import annotations

import sqlalchemy as sa

from lastunit.service.migrations import migrated
from lastunit.service.sql import ROW_ID

__all__ = [
    "access_log",
    "accounts",
    "calls",
    "claims",
    "codes",
    "cursors",
    "facts",
    "identifiers",
    "merges",
    "metadata",
    "notices",
    "person_events",
    "persons",
    "real_names",
    "requests",
    "sessions",
    "settings",
    "transitions",
    "unions",
]

metadata = sa.MetaData(info=migrated("account", "lastunit.account.migrations"))

# --- who is who ----------------------------------------------------------------------------

persons = sa.Table(
    "persons",
    metadata,
    sa.Column("person_id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    # The live person that it is part of, never one that is MERGED itself; null if it is live.
    sa.Column("merged_into", sa.Text, sa.ForeignKey("persons.person_id"), nullable=True),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("verify_ms", sa.BigInteger, nullable=True),
    sa.Index("ix_persons_merged_into", "merged_into"),
    sqlite_with_rowid=False,
)

accounts = sa.Table(
    "accounts",
    metadata,
    sa.Column("account_id", sa.Text, primary_key=True),
    # The live person: the root of the home person, kept here so that resolving reads one row.
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    # Rises whenever an answer of ResolvePerson changes.
    sa.Column("version", sa.Integer, nullable=False),
    # The person that the account was made with; never changes.
    sa.Column("home_person_id", sa.Text, nullable=False),
    # A name of the contract's LockReason without its prefix; empty unless LOCKED.
    sa.Column("lock_reason", sa.Text, nullable=False),
    # When a lock ends by itself; null if it does not.
    sa.Column("unlock_ms", sa.BigInteger, nullable=True),
    # When its owner last logged in; null if nobody ever did.
    sa.Column("login_ms", sa.BigInteger, nullable=True),
    sa.Index("ix_accounts_home_person_id", "home_person_id", unique=True),
    sa.Index("ix_accounts_person_id", "person_id"),
    sa.Index("ix_accounts_unlock_ms", "unlock_ms"),
    sqlite_with_rowid=False,
)

_identifier_state = sa.Column("state", sa.Text, nullable=False)
identifiers = sa.Table(
    "identifiers",
    metadata,
    sa.Column("identifier_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    _identifier_state,
    # Of the key that made the digest.
    sa.Column("key_version", sa.Integer, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    # Starts with the version of its own key; null for one from before identifiers were kept.
    sa.Column("ciphertext", sa.LargeBinary, nullable=True),
    sa.Column("masked", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("verify_ms", sa.BigInteger, nullable=True),
    # When it last proved anything; null if it never did.
    sa.Column("use_ms", sa.BigInteger, nullable=True),
    # When a disputed one is taken from its account.
    sa.Column("release_ms", sa.BigInteger, nullable=True),
    sa.Column("change_ms", sa.BigInteger, nullable=False),
    # One owner for each identifier, whatever becomes of rows that lead nowhere any more.
    sa.Index(
        "ix_identifiers_digest",
        "digest",
        unique=True,
        sqlite_where=_identifier_state != "RELEASED",
        postgresql_where=_identifier_state != "RELEASED",
    ),
    sa.Index("ix_identifiers_account_id", "account_id"),
    sa.Index("ix_identifiers_key_version", "key_version"),
    sa.Index("ix_identifiers_release_ms", "release_ms"),
    sqlite_with_rowid=False,
)

# One person for each fingerprint. A number is not kept, so a row stays under the key it was made
# with until its owner proves it again.
real_names = sa.Table(
    "real_names",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("key_version", sa.Integer, nullable=False),
    sa.Column("person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_real_names_person_id", "person_id"),
    sqlite_with_rowid=False,
)

# --- how persons meet and part -------------------------------------------------------------

unions = sa.Table(
    "unions",
    metadata,
    sa.Column("union_id", sa.Text, primary_key=True),
    sa.Column("person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("owner_person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=True),
    sa.Index("ix_unions_person_id", "person_id"),
    sa.Index("ix_unions_owner_person_id", "owner_person_id"),
    sqlite_with_rowid=False,
)

merges = sa.Table(
    "merges",
    metadata,
    sa.Column("merge_id", sa.Text, primary_key=True),
    # Both were live when it was executed; the rows that stand make a forest over the persons.
    sa.Column("source_person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("target_person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    # Empty if a login led to it.
    sa.Column("claim_id", sa.Text, nullable=False),
    sa.Column("execute_ms", sa.BigInteger, nullable=False),
    # When it becomes final; null once it is not EXECUTED any more.
    sa.Column("due_ms", sa.BigInteger, nullable=True),
    sa.Column("reversible_until_ms", sa.BigInteger, nullable=False),
    # Identifiers that were released with it, a JSON list; they come back if it is reversed.
    sa.Column("released_identifier_ids", sa.Text, nullable=False),
    sa.Index("ix_merges_source_person_id", "source_person_id"),
    sa.Index("ix_merges_target_person_id", "target_person_id"),
    sa.Index("ix_merges_due_ms", "due_ms"),
    sqlite_with_rowid=False,
)

claims = sa.Table(
    "claims",
    metadata,
    sa.Column("claim_id", sa.Text, primary_key=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id"), nullable=False),
    sa.Column("person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("owner_person_id", sa.Text, sa.ForeignKey("persons.person_id"), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("wait_until_ms", sa.BigInteger, nullable=False),
    sa.Column("confirm_until_ms", sa.BigInteger, nullable=True),
    # When a clock moves it next; null if none does.
    sa.Column("due_ms", sa.BigInteger, nullable=True),
    sa.Column("token_digest", sa.LargeBinary, nullable=False),
    sa.Column("merge_id", sa.Text, nullable=False),
    # A JSON list.
    sa.Column("dead_identifier_ids", sa.Text, nullable=False),
    sa.Column("told_count", sa.Integer, nullable=False),
    sa.Index("ix_claims_person_id", "person_id"),
    sa.Index("ix_claims_owner_person_id", "owner_person_id"),
    sa.Index("ix_claims_state", "state", "claim_id"),
    sa.Index("ix_claims_due_ms", "due_ms"),
    sqlite_with_rowid=False,
)

# --- what happened -------------------------------------------------------------------------

# Every move of anything above but its first one, which its own row dates.
transitions = sa.Table(
    "transitions",
    metadata,
    sa.Column("number", ROW_ID, primary_key=True),
    sa.Column("entity", sa.Text, nullable=False),
    sa.Column("entity_id", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("state_from", sa.Text, nullable=False),
    sa.Column("state_to", sa.Text, nullable=False),
    # What led to it: a request id, an id of a claim or merge, or `timer`.
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_transitions_entity_id", "entity_id", "number"),
)

# What others must know, without a gap: written with what it tells of, under the writers' lock.
person_events = sa.Table(
    "person_events",
    metadata,
    sa.Column("sequence", ROW_ID, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("person_id", sa.Text, nullable=False),
    sa.Column("other_person_id", sa.Text, nullable=False),
    # JSON lists.
    sa.Column("person_ids", sa.Text, nullable=False),
    sa.Column("account_ids", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
)

# How far followers of `person_events` are, such as the ledger's feeder.
cursors = sa.Table(
    "cursors",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- calls that were carried out -----------------------------------------------------------

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("identifier_digest", sa.LargeBinary, nullable=False),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id"), nullable=False),
    sa.Column("is_created", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

# Of every call but Register.
calls = sa.Table(
    "calls",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("method", sa.Text, nullable=False),
    # The compared fields, a JSON object; personal ones as keyed digests.
    sa.Column("content", sa.Text, nullable=False),
    # The serialized response.
    sa.Column("answer", sa.LargeBinary, nullable=False),
    # The last person event of the call, which followers must have before it is answered; 0: none.
    sa.Column("event_sequence", sa.BigInteger, nullable=False),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# --- proofs, sessions and what leaves the house --------------------------------------------

codes = sa.Table(
    "codes",
    metadata,
    sa.Column("code_id", ROW_ID, primary_key=True),
    # Of the identifier that it was sent to.
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("purpose", sa.Integer, nullable=False),
    sa.Column("code_digest", sa.LargeBinary, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=False),
    sa.Column("try_count", sa.Integer, nullable=False),
    sa.Column("use_ms", sa.BigInteger, nullable=True),
    sa.Index("ix_codes_digest", "digest", "create_ms"),
    sa.Index("ix_codes_create_ms", "create_ms"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_digest", sa.LargeBinary, primary_key=True),
    sa.Column("account_id", sa.Text, sa.ForeignKey("accounts.account_id"), nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    sa.Column("expire_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=True),
    sa.Column("end_reason", sa.Text, nullable=False),
    sa.Index("ix_sessions_account_id", "account_id"),
    sa.Index("ix_sessions_expire_ms", "expire_ms"),
    sqlite_with_rowid=False,
)

access_log = sa.Table(
    "access_log",
    metadata,
    sa.Column("access_id", ROW_ID, primary_key=True),
    sa.Column("time_ms", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    # An account or an identifier.
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("field", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Index("ix_access_log_subject", "subject", "access_id"),
)

# What is to be told to an identifier; the text is made when it is sent.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("notice_id", ROW_ID, primary_key=True),
    sa.Column("identifier_id", sa.Text, sa.ForeignKey("identifiers.identifier_id"), nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    # A JSON object without personal data.
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("create_ms", sa.BigInteger, nullable=False),
    # When it is tried next; null once it is sent or given up.
    sa.Column("due_ms", sa.BigInteger, nullable=True),
    sa.Column("try_count", sa.Integer, nullable=False),
    sa.Column("send_ms", sa.BigInteger, nullable=True),
    sa.Index("ix_notices_due_ms", "due_ms"),
    sa.Index("ix_notices_identifier_id", "identifier_id"),
)

# --- of the service itself -----------------------------------------------------------------

# What operators set while it runs.
settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
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
