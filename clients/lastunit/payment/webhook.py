"""The door for callbacks: checked, stored durably, and only then answered with 200.

Owns the order of the checks and the inbox's one insert. Must not act on what a callback says, and
never refuses one for being unknown or late: that is for the inbox worker to judge.
Next: `lastunit.payment.webhook_app` (its HTTP form), `lastunit.payment.inbox`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.errors import LastunitError
from lastunit.payment.callback import MalformedCallbackError
from lastunit.payment.dialect import OWN_DIALECT, Dialect, Envelope
from lastunit.payment.flood import Flood
from lastunit.payment.inbox_store import InboxStore
from lastunit.payment.signature import KEY_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.service.clock import Clock
    from lastunit.service.database import TransactionRunner

__all__ = ["BODY_BYTES_MAX", "UNVERIFIED_REASONS", "Answer", "Webhook"]

UNVERIFIED_REASONS: Final = frozenset({"time", "signature", "too_large", "cut_off"})
"""Reasons of a refusal that leave open who sent it."""

BODY_BYTES_MAX: Final = 64 * 1024
"""The contract's bound on one callback's body."""

TIME_WINDOW_SECONDS: Final = 300
"""A signature is believed for so long either way: a recorded callback is worth little later."""

# Two while a key is rotated; more would only make forging cheaper to try and checking dearer.
KEYS_MAX: Final = 8

_TIMESTAMP_DIGITS_MAX: Final = 12

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """Is what the provider is answered.

    Attributes:
        status: HTTP status: 200, 400, 401, 413 or 503.
        reason: Stable machine name of a refusal; `ok` for 200.
        is_duplicate: True if the event was stored before.
    """

    status: int
    reason: str = "ok"
    is_duplicate: bool = False


class Webhook:
    """Receives callbacks of providers.

    Args:
        runner: Writes the inbox.
        keys: For each provider the secrets that are valid now, 1 to 8, 16 bytes or more each.
        clock: Tells the time for the window.
        dialects: How providers word their callbacks, by name; ours for those that are not there.

    Attributes:
        counts: How many callbacks got which reason.
        flood: Who sends too much that nobody signed.
    """

    def __init__(
        self,
        runner: TransactionRunner,
        keys: Mapping[str, Sequence[bytes]],
        clock: Clock,
        dialects: Mapping[str, Dialect] | None = None,
    ) -> None:
        for provider, secrets in keys.items():
            if not 1 <= len(secrets) <= KEYS_MAX or min(map(len, secrets)) < KEY_BYTES_MIN:
                raise ValueError(
                    f"provider {provider} needs 1 to {KEYS_MAX} keys of {KEY_BYTES_MIN} bytes "
                    f"or more each"
                )
        self._inbox = InboxStore(runner)
        self._keys = {provider: tuple(secrets) for provider, secrets in keys.items()}
        self._clock = clock
        self._dialects = dialects or {}
        self.counts: dict[str, int] = {}
        self.flood = Flood()

    def refuse_early(self, provider: str, headers: Mapping[str, str]) -> Answer | None:
        """Refuses by the headers alone what no body could make good, before it is read.

        Args:
            provider: Name of the provider, from the URL.
            headers: The request's headers with lower-case names.
        """
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > BODY_BYTES_MAX:
            return self.count(Answer(413, "too_large"))
        dialect = self._dialects.get(provider, OWN_DIALECT)
        if not self._is_in_window(dialect.timestamp(headers)):
            return self.count(Answer(401, "time"))
        if provider not in self._keys:
            return self.count(Answer(401, "signature"))
        return None

    def note_sender(self, address: str, *, is_verified: bool) -> None:
        """Counts for an address whether what it sent was signed."""
        self.flood.note(address, is_verified=is_verified, now_ms=self._clock.now_ms())

    def count(self, answer: Answer) -> Answer:
        """Counts an answer by its reason, and returns it."""
        self.counts[answer.reason] = self.counts.get(answer.reason, 0) + 1
        return answer

    async def receive(self, provider: str, headers: Mapping[str, str], raw_body: bytes) -> Answer:
        """Checks a callback, stores it durably and says how to answer.

        Args:
            provider: Name of the provider, from the URL.
            headers: The request's headers with lower-case names.
            raw_body: The body's bytes as they came.

        Returns:
            200 only once the callback is on disk, now or before.
        """
        answer = self._check(provider, headers, raw_body)
        if isinstance(answer, Envelope):
            answer = await self._store(provider, answer, raw_body)
        return self.count(answer)

    def _check(
        self, provider: str, headers: Mapping[str, str], raw_body: bytes
    ) -> Envelope | Answer:
        if len(raw_body) > BODY_BYTES_MAX:
            return Answer(413, "too_large")
        dialect = self._dialects.get(provider, OWN_DIALECT)
        if not self._is_in_window(dialect.timestamp(headers)):
            return Answer(401, "time")
        # A provider that is not known has no key, so nobody can have signed for it.
        if not dialect.is_signed(self._keys.get(provider, ()), headers, raw_body):
            return Answer(401, "signature")
        try:
            envelope = dialect.read(raw_body)
        except MalformedCallbackError as error:
            _log.warning("malformed callback", extra={"provider": provider, "why": str(error)})
            return Answer(400, "malformed")
        if (dialect.named(headers) or envelope.event_id) != envelope.event_id:
            return Answer(400, "event_id_differs")
        return envelope

    def _is_in_window(self, timestamp: str) -> bool:
        if not timestamp.isascii() or not timestamp.isdigit():
            return False
        if len(timestamp) > _TIMESTAMP_DIGITS_MAX:
            return False
        return abs(self._clock.now_ms() / 1000 - int(timestamp)) <= TIME_WINDOW_SECONDS

    async def _store(self, provider: str, envelope: Envelope, raw_body: bytes) -> Answer:
        row = {
            "provider": provider,
            "event_id": envelope.event_id,
            "raw_body": raw_body,
            "arrive_ms": self._clock.now_ms(),
        }

        try:
            is_new = await self._inbox.add(row)
        except asyncio.CancelledError:
            raise
        except (LastunitError, sa.exc.SQLAlchemyError, OSError) as error:
            # The provider keeps it and comes back; a 200 now could lose a payment.
            _log.exception("callback not stored", extra={"provider": provider, "why": str(error)})
            return Answer(503, "not_stored")
        return Answer(200, "ok", is_duplicate=not is_new)
