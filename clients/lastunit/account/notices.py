"""Tells the identifiers of an account what happens to it.

Owns the rows of `notices`, their texts and how often a notice is tried. Must not know why something
happens. Next: `lastunit.account.senders`; docs/operating/accounts-privacy.md.

A notice is stored in the transaction of what it tells of, and sent afterwards; one that was sent
when the process died is sent once more.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, access
from lastunit.account.identifiers import IdentifierKind
from lastunit.account.sealing import SealError
from lastunit.account.senders import Message, SendError
from lastunit.account.states import IdentifierState
from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.account.identifiers import Identifier
    from lastunit.account.senders import Sender
    from lastunit.account.vault import Vault
    from lastunit.service.database import Database

__all__ = ["TEXTS", "Notices", "message_of", "put", "waiting_count"]

TEXTS: Final[Mapping[str, tuple[str, str]]] = {
    "CLAIM_OPENED": (
        "Somebody claims your account",
        (
            "Somebody proved your real name and asks for your account. If that is you, there is"
            " nothing to do. If not, log in and object: the claim stops at once."
        ),
    ),
    "CLAIM_CANCELLED": (
        "A claim was stopped",
        "The claim on your account was stopped. Nothing was changed.",
    ),
    "CLAIM_APPROVED": (
        "Your claim is approved",
        "Nobody objected to your claim. Confirm it within 24 hours with the token you were given.",
    ),
    "CLAIM_REJECTED": (
        "Your claim is rejected",
        "Support said no to your claim. Write to support if you want to know more.",
    ),
    "CLAIM_EXECUTED": (
        "Your accounts are joined",
        (
            "A claim on your account was carried out. If it was not yours, log in or write to"
            " support within 30 days: it is undone then."
        ),
    ),
    "MERGE_REVERSED": (
        "Your accounts are apart again",
        "Joined accounts were taken apart again. Each keeps what was bought with it.",
    ),
    "ACCOUNTS_LINKED": (
        "Your accounts are joined",
        (
            "Two accounts were joined by logging in to both. If that was not you, write to support"
            " within 30 days: it is undone then."
        ),
    ),
    "IDENTIFIER_DISPUTED": (
        "Somebody else has a login of yours",
        (
            "A phone number or address of your account was proved by somebody who says the account"
            " is not theirs. If you still have it, log in with it within 7 days; otherwise it is"
            " taken from your account, which stays yours."
        ),
    ),
    "IDENTIFIER_CHANGED": (
        "A login of yours was changed",
        (
            "A phone number or address was added to your account or taken from it. If that was not"
            " you, write to support at once."
        ),
    ),
    "ACCOUNT_LOCKED": (
        "Your account is locked",
        "Your account is locked. You can log in and look at your orders; support can say why.",
    ),
    "ACCOUNT_CLOSED": (
        "Your account is closed",
        "Your account was closed and its logins were taken from it.",
    ),
}
"""Subject and text of each kind."""

# Minutes and hours in which a mail server comes back; then nobody would profit any more.
RETRY_SECONDS: Final = (60, 300, 1_800, 7_200, 43_200)

# Told in one step; each costs a connection to the mail server.
NOTICES_PER_STEP_MAX: Final = 16

_TOLD: Final = (IdentifierState.VERIFIED, IdentifierState.UNVERIFIED, IdentifierState.DISPUTED)

_log: Final = logging.getLogger(__name__)


def message_of(kind: str) -> Message:
    """Returns what a notice says."""
    return Message(*TEXTS[kind])


def put(
    connection: sa.Connection,
    *,
    account_ids: Sequence[str],
    kind: str,
    now_ms: int,
    data: Mapping[str, str] | None = None,
    but_identifier_id: str = "",
) -> int:
    """Stores a notice for each identifier of some accounts that can get one.

    Args:
        connection: Inside the transaction of what it tells of.
        account_ids: Whose identifiers.
        kind: One of `TEXTS`.
        now_ms: Milliseconds since the epoch.
        data: What support may want to know, without personal data.
        but_identifier_id: One that is not told, because somebody else has it.

    Returns:
        How many identifiers will be told.
    """
    if kind not in TEXTS:
        raise ValueError(f"there is no text for notices of kind {kind}")
    table = _tables.identifiers
    told = connection.scalars(
        sa.select(table.c.identifier_id)
        .where(
            table.c.account_id.in_(account_ids),
            table.c.state.in_(_TOLD),
            table.c.kind != IdentifierKind.EXTERNAL.value,
            table.c.identifier_id != but_identifier_id,
        )
        .order_by(table.c.identifier_id)
    ).all()
    rows = [
        {
            "identifier_id": identifier_id,
            "kind": kind,
            "data": json.dumps(dict(data or {}), sort_keys=True),
            "create_ms": now_ms,
            "due_ms": now_ms,
            "try_count": 0,
        }
        for identifier_id in told
    ]
    if rows:
        connection.execute(sa.insert(_tables.notices), rows)
    return len(rows)


def waiting_count(connection: sa.Connection) -> int:
    """Returns how many notices are not sent yet and not given up."""
    table = _tables.notices
    query = sa.select(sa.func.count()).select_from(table).where(table.c.due_ms.is_not(None))
    return connection.scalar(query) or 0


class Notices:
    """Sends what is stored.

    Args:
        database: Where notices are.
        vault: Lends the keys.
        sender: Who carries them.
    """

    def __init__(self, database: Database, *, vault: Vault, sender: Sender) -> None:
        self._database = database
        self._vault = vault
        self._sender = sender

    async def send_once(self, now_ms: int) -> int:
        """Sends what is due, at most 16 notices; returns how many were tried."""
        due = await self._database.run(lambda connection: self._take(connection, now_ms))
        for notice_id, kind, try_count, identifier in due:
            next_ms, send_ms = await self._send(identifier, kind, try_count, now_ms)
            await self._database.run(
                partial(_note, notice_id=notice_id, due_ms=next_ms, send_ms=send_ms)
            )
        return len(due)

    def _take(
        self, connection: sa.Connection, now_ms: int
    ) -> list[tuple[int, str, int, Identifier | None]]:
        """Reads what is due, and so whom to tell, which the access log is told of."""
        table = _tables.notices
        rows = connection.execute(
            sa.select(table)
            .where(table.c.due_ms <= now_ms)
            .order_by(table.c.due_ms, table.c.notice_id)
            .limit(NOTICES_PER_STEP_MAX)
        ).all()
        if not rows:
            return []
        ring = self._vault.ring(connection)
        due: list[tuple[int, str, int, Identifier | None]] = []
        for row in rows:
            reader = access.Reader("notices", row.kind, now_ms, f"notice:{row.notice_id}")
            try:
                identifier = access.reveal(connection, ring, row.identifier_id, reader=reader)
            except SealError as error:
                _log.error("a notice cannot be sent", extra={"why": str(error)})
                identifier = None
            due.append((row.notice_id, row.kind, row.try_count, identifier))
        return due

    async def _send(
        self, identifier: Identifier | None, kind: str, try_count: int, now_ms: int
    ) -> tuple[int | None, int | None]:
        """Returns when it is tried next, if at all, and when it was sent, if it was."""
        if identifier is None:
            # From before identifiers were kept: nobody knows where to.
            return None, None
        try:
            await self._sender.send(identifier, message_of(kind))
        except (SendError, BusyError) as error:
            is_final = isinstance(error, SendError) and error.is_final
            if is_final or try_count >= len(RETRY_SECONDS):
                _log.warning("a notice was given up", extra={"kind": kind, "why": str(error)})
                return None, None
            return now_ms + RETRY_SECONDS[try_count] * 1_000, None
        return None, now_ms


def _note(
    connection: sa.Connection, *, notice_id: int, due_ms: int | None, send_ms: int | None
) -> None:
    table = _tables.notices
    connection.execute(
        sa.update(table)
        .where(table.c.notice_id == notice_id)
        .values(due_ms=due_ms, send_ms=send_ms, try_count=table.c.try_count + 1)
    )
