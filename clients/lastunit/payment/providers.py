"""The providers of this service, in the order in which they are preferred.

Owns which one gets a new attempt, and the health checks behind that. Must not write anything down.
Next: `lastunit.payment.breaker` decides when one is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from lastunit.payment.breaker import Breaker, BreakerEvent, BreakerLimits, BreakerState
from lastunit.payment.provider import ProviderRefusedError, ProviderUnavailableError
from lastunit.payment.transitions import Entity, Move

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.payment.provider import (
        BillPage,
        CloseAnswer,
        CreateOrder,
        Known,
        Provider,
        ProviderAttempt,
        RefundAnswer,
    )
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock

__all__ = ["PROVIDERS_MAX", "AbsentProvider", "Providers"]

PROVIDERS_MAX: Final = 8

# No attempt has this number: an order's has a colon in it. Any answer is a sign of life.

# Moves that wait to be written down; a breaker moves a few times a minute at most.
_MOVES_MAX: Final = 1_000

_CAUSES: Final[Mapping[BreakerEvent, str]] = {
    BreakerEvent.MANY_ERRORS: "call create",
    BreakerEvent.CHECKS_LOST: "timer health check",
    BreakerEvent.REST_OVER: "timer rest",
    BreakerEvent.PROBES_WELL: "call create",
    BreakerEvent.PROBE_FAILED: "call create",
}

_log: Final = logging.getLogger(__name__)


class AbsentProvider:
    """Stands for a provider that attempts were begun at and that this service is not told of now.

    It gives no answer: what is begun there waits, and nothing is taken for settled.

    Args:
        name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    async def create(self, order: CreateOrder) -> ProviderAttempt:
        """Gives no answer."""
        raise self._unavailable(order.merchant_no)

    async def query(
        self, merchant_no: str, *, known: Known | None = None
    ) -> ProviderAttempt | None:
        """Gives no answer."""
        del known
        raise self._unavailable(merchant_no)

    async def check(self) -> None:
        """Gives no answer."""
        raise self._unavailable("an attempt")

    async def close(self, merchant_no: str, *, known: Known | None = None) -> CloseAnswer:
        """Gives no answer."""
        del known
        raise self._unavailable(merchant_no)

    async def refund(
        self,
        merchant_no: str,
        *,
        amount_minor: int,
        currency: str,
        refund_key: str,
        known: Known | None = None,
    ) -> RefundAnswer:
        """Gives no answer."""
        del amount_minor, currency, refund_key, known
        raise self._unavailable(merchant_no)

    async def bill(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Gives no answer."""
        del from_ms, to_ms, cursor, limit
        raise self._unavailable("a bill")

    def _unavailable(self, merchant_no: str) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"{merchant_no} was begun at {self.name}, which this service is not told of; start it "
            f"with that provider until its attempts are settled"
        )


class _ByName(dict[str, "Provider"]):
    def __missing__(self, name: str) -> Provider:
        return AbsentProvider(name)


class Providers:
    """Chooses a provider for each new attempt.

    Args:
        providers: 1 to 8, the preferred one first, each with another name.
        clock: Tells the time.
        settings: Spans of the breakers.

    Raises:
        ValueError: There is none, more than 8, or a name is there twice.

    Attributes:
        by_name: All of them; any other name gives one that never answers.
        breakers: One for each, by name.
    """

    def __init__(
        self, providers: Sequence[Provider], *, clock: Clock, settings: PaymentSettings
    ) -> None:
        self.by_name: Mapping[str, Provider] = _ByName({each.name: each for each in providers})
        if not 1 <= len(self.by_name) == len(providers) <= PROVIDERS_MAX:
            raise ValueError(
                f"1 to {PROVIDERS_MAX} providers with different names are needed, not "
                f"{[each.name for each in providers]}"
            )
        self._clock = clock
        self._check_seconds = settings.check_seconds
        limits = BreakerLimits(rest_ms=round(settings.rest_seconds * settings.time_scale * 1_000))
        now_ms = clock.now_ms()
        self.breakers = {name: Breaker(limits, now_ms=now_ms) for name in self.by_name}
        self._moves: deque[tuple[Move, str, int]] = deque(maxlen=_MOVES_MAX)

    @property
    def first(self) -> str:
        """Name of the preferred one."""
        return next(iter(self.by_name))

    def choose(self, named: str = "") -> str | None:
        """Returns the name of the one that gets a new attempt, or None if none may.

        Args:
            named: The only one that may have it; empty: the first that is trusted.
        """
        now_ms = self._clock.now_ms()
        for name in [named] if named else self.by_name:
            breaker = self.breakers.get(name)
            if breaker is None:
                return None
            before = breaker.state
            is_taken = breaker.take(now_ms)
            self._tell(name, before)
            if is_taken:
                return name
        return None

    def take_moves(self) -> list[tuple[Move, str, int]]:
        """Takes the moves of breakers since the last call: each with its cause and its time."""
        moves = list(self._moves)
        self._moves.clear()
        return moves

    def note_call(self, name: str, *, is_well: bool) -> None:
        """Counts what came of a new attempt at a provider; nothing of one that is absent."""
        breaker = self.breakers.get(name)
        if breaker is None:
            return
        before = breaker.state
        breaker.note_call(is_well=is_well, now_ms=self._clock.now_ms())
        self._tell(name, before)

    async def check_once(self) -> int:
        """Asks each provider for a sign of life, all at once; returns how many gave none."""
        answers = await asyncio.gather(*map(self._is_answering, self.by_name.values()))
        for name, is_answered in zip(self.by_name, answers, strict=True):
            breaker = self.breakers[name]
            before = breaker.state
            breaker.note_check(is_answered=is_answered, now_ms=self._clock.now_ms())
            self._tell(name, before)
        return answers.count(False)

    async def _is_answering(self, provider: Provider) -> bool:
        try:
            async with asyncio.timeout(self._check_seconds):
                await provider.check()
        except (ProviderUnavailableError, TimeoutError):
            return False
        except ProviderRefusedError:
            # It is there, and says no.
            return True
        return True

    def _tell(self, name: str, before: BreakerState) -> None:
        breaker = self.breakers[name]
        if breaker.state is before:
            return
        event = breaker.cause
        if event is not None:
            move = Move(Entity.BREAKER, name, event.value, before.value, breaker.state.value)
            self._moves.append((move, _CAUSES[event], breaker.since_ms))
        level = logging.INFO if breaker.state is BreakerState.CLOSED else logging.WARNING
        facts = {"provider": name, "state_from": before.value, "state_to": breaker.state.value}
        cause = breaker.cause.value if breaker.cause else ""
        _log.log(level, "the breaker of a provider moved", extra=facts | {"cause": cause})
