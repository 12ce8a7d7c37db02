"""Sends a message to an identifier: a code, or word that somebody claims an account.

Owns the way out and what its failures mean. Must not keep or log an identifier or a code: errors
of mail servers repeat addresses, so their text never leaves this module.
Next: `lastunit.account.smtp` for mail; `lastunit.account.codes` for what is sent.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from lastunit.account.identifiers import Identifier

__all__ = ["Message", "NoSender", "SandboxSender", "SendError", "Sender", "Sent"]

# The sandbox remembers so many; a test looks at the last few.
SANDBOX_MESSAGES_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Message:
    """Is what a human reads.

    Attributes:
        subject: One line, up to 200 characters; a text message has none.
        text: Up to 2,000 characters. Never shown: it may hold a code.
    """

    subject: str
    text: str

    def __repr__(self) -> str:
        """Hides the text, because a representation ends in logs."""
        return f"Message({self.subject!r})"


class SendError(Exception):
    """A message was not handed over.

    Args:
        message: What went wrong, without the identifier.
        is_final: True if this identifier can never be reached this way; False if trying again
            later may help.
    """

    def __init__(self, message: str, *, is_final: bool) -> None:
        super().__init__(message)
        self.is_final = is_final


class Sender(Protocol):
    """Hands messages over to whoever carries them."""

    async def send(self, identifier: Identifier, message: Message) -> None:
        """Returns once the message is handed over.

        Raises:
            SendError: It was not.
        """
        ...


class Sent(NamedTuple):
    """One message in the sandbox; the identifier in full, because it is in memory only."""

    identifier: Identifier
    message: Message


class SandboxSender:
    """Keeps messages instead of sending them; never for buyers.

    Args:
        path: A file that gets a JSON line for each message, its recipient masked; None for none.

    Attributes:
        sent: The last 10,000.
        fail_next: Raised by the next send, for tests of what happens then.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.sent: deque[Sent] = deque(maxlen=SANDBOX_MESSAGES_MAX)
        self.fail_next: SendError | None = None
        self._path = path

    async def send(self, identifier: Identifier, message: Message) -> None:
        """Keeps the message."""
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.sent.append(Sent(identifier, message))
        if self._path is not None:
            line = {
                "to": identifier.masked(),
                "subject": message.subject,
                "text": message.text,
            }
            await asyncio.to_thread(_append, self._path, json.dumps(line) + "\n")


class NoSender:
    """Refuses every message: the service is configured to need none."""

    async def send(self, _identifier: Identifier, _message: Message) -> None:
        """Refuses."""
        raise SendError(
            "this service sends no messages; start it with --sender smtp or --sender sandbox",
            is_final=True,
        )


def _append(path: Path, line: str) -> None:
    # One write of one line, so that two processes never mix theirs.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
