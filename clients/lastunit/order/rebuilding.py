"""Puts `lastunit order rebuild` together.

Owns what is opened and closed, and the words of progress and result. Must not parse flags: `cli`
does. Next: `lastunit.order.rebuild`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastunit.client.aio import ClientSecurity, StockClient
from lastunit.order.follower import OrderFollower
from lastunit.order.rebuild import Rebuild
from lastunit.order.schema import ORDER_METADATA
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database
from lastunit.service.leadership import attending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.order.rebuild import Progress, Rebuilt
    from lastunit.service.database import Place

__all__ = ["RebuildProcess", "progress_text", "rebuild_orders", "result_text"]

_NAMED_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class RebuildProcess:
    """Says which database is rebuilt from which ledger.

    Attributes:
        database: Holds the tables.
        ledger_address: The ledger's data listener.
        deadline_seconds: For each call to it, with all retries.
    """

    database: Place
    ledger_address: str
    deadline_seconds: float


async def rebuild_orders(
    process: RebuildProcess, on_progress: Callable[[Progress], None]
) -> Rebuilt:
    """Rebuilds the projections of a database that no service works on.

    Raises:
        InUseError: A service runs on it.
        LastunitError: The ledger did not answer; run it again, it goes on from there.
    """
    with (
        Database(process.database, ORDER_METADATA) as database,
        attending(database, is_alone=True),
    ):
        ledger = StockClient(
            process.ledger_address,
            caller="order-service",
            deadline_seconds=process.deadline_seconds,
            security=ClientSecurity.from_environment(),
        )
        try:
            follower = OrderFollower(
                database=database, runner=database, ledger=ledger, clock=SystemClock()
            )
            return await Rebuild(
                database=database,
                runner=database,
                ledger=ledger,
                follower=follower,
                on_progress=on_progress,
            ).run()
        finally:
            await ledger.close()


def progress_text(progress: Progress) -> str:
    """Returns how far it is, in a line."""
    whole = max(progress.last_sequence, 1)
    return (
        f"event {progress.sequence:,} of {progress.last_sequence:,}"
        f" ({100 * progress.sequence // whole} %), {progress.events_per_second:,.0f} a second"
    )


def result_text(rebuilt: Rebuilt) -> str:
    """Returns what came of it, in a few lines."""
    told = f"{rebuilt.order_count:,} orders with {rebuilt.transition_count:,} moves"
    lines = [f"done: {told}, up to event {rebuilt.sequence:,} of the ledger"]
    if rebuilt.compared:
        lines.append(
            f"{len(rebuilt.compared):,} orders could not be told by events and were set to what"
            f" the ledger shows: {_named(rebuilt.compared)}"
        )
    if rebuilt.unknown:
        lines.append(
            f"{len(rebuilt.unknown):,} orders are not known to the ledger any more; restore their"
            f" projections from a backup: {_named(rebuilt.unknown)}"
        )
    return "\n".join(lines)


def _named(order_ids: Sequence[str]) -> str:
    more = f" and {len(order_ids) - _NAMED_MAX:,} more" if len(order_ids) > _NAMED_MAX else ""
    return ", ".join(order_ids[:_NAMED_MAX]) + more
