"""The loops of the payment service: one for each kind of work, so that none waits for another.

Owns the pauses. Must not hold behaviour: each loop calls one step of the core.
Next: `lastunit.payment.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastunit.service.steps import Background, repeat, take_in_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit.client.aio import StockClient
    from lastunit.payment.core import PaymentCore
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock
    from lastunit.service.leadership import Leadership
    from lastunit.stock.v1 import event_pb2

__all__ = ["start_loops"]

# How soon a stored callback is noticed; the look costs a tenth of a millisecond.
_INBOX_PAUSE_SECONDS: Final = 0.01
_SETTLE_PAUSE_SECONDS: Final = 0.01
_REFUND_PAUSE_SECONDS: Final = 0.1
# Asks are spans of seconds; a scaled run scales this as well.
_ASK_PAUSE_SECONDS: Final = 0.2

_STEP_MAX: Final = 256
# A step that has nothing left to do pauses always.
_NEVER_FULL: Final = 1_000_000
_EVENTS_MAX: Final = 1_024


def start_loops(
    background: Background,
    core: PaymentCore,
    *,
    ledger: StockClient,
    clock: Clock,
    settings: PaymentSettings,
    leadership: Leadership,
) -> None:
    """Starts every loop of the service.

    Of several processes one at a time works off the inbox, tells, refunds and asks; all follow the
    ledger, and each looks after its own breakers.

    Args:
        background: Keeps them.
        core: Has the steps.
        ledger: Streams its events.
        clock: Says which asks are due.
        settings: `time_scale` shortens the pause of asking as well.
        leadership: Says whether this process is the one.
    """

    def events() -> AsyncIterator[event_pb2.Event]:
        return ledger.read_events(core.follower.position, follow=True, page_size=_EVENTS_MAX)

    async def reconcile() -> int:
        return await core.reconcile_once(clock.now_ms(), _STEP_MAX)

    background.start(
        repeat(
            leadership.led(core.process_inbox_once),
            name="inbox",
            pause_seconds=_INBOX_PAUSE_SECONDS,
            full_count=_STEP_MAX,
        )
    )
    background.start(
        repeat(
            leadership.led(core.settle_once),
            name="settle",
            pause_seconds=_SETTLE_PAUSE_SECONDS,
            full_count=_STEP_MAX,
        )
    )
    background.start(
        repeat(
            leadership.led(core.refund_once),
            name="refund",
            pause_seconds=_REFUND_PAUSE_SECONDS,
            full_count=64,
        )
    )
    background.start(
        repeat(
            leadership.led(reconcile),
            name="reconcile",
            pause_seconds=_ASK_PAUSE_SECONDS * min(1.0, settings.time_scale),
            full_count=_STEP_MAX,
        )
    )
    background.start(
        repeat(
            core.check_once,
            name="check",
            pause_seconds=settings.check_seconds / 2,
            full_count=_NEVER_FULL,
        )
    )
    background.start(
        take_in_batches(events, core.follower.take, name="follow", batch_max=_EVENTS_MAX)
    )
