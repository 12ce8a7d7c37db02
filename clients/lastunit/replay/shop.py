"""The real order and payment code, put together for the simulated clock.

Owns the wiring: which database is slow, who is called in the process instead of over a wire.
Must not decide what happens when. Next: ``ours.py`` drives it; ``lastunit.order.core`` and
``lastunit.payment.core`` are what is wired.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.order.core import OrderCore
from lastunit.order.persons import AccountState, PersonDirectory, ResolvedPerson
from lastunit.order.schema import ORDER_METADATA, order_states
from lastunit.order.settings import OrderSettings
from lastunit.order.states import OrderState
from lastunit.payment.core import PaymentCore
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.in_process import InProcessProvider
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.webhook import Webhook
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.replay.ledger import SKU
from lastunit.replay.slow_database import SlowDatabase
from lastunit.service.database import Database

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from lastunit.client.aio import StockClient
    from lastunit.replay.designs import Design, Setting
    from lastunit.replay.stage import Stage

__all__ = ["Shop"]

_KEY: Final = b"sandbox key of a replay"
_PROVIDER: Final = "sandbox"
_MINOR_PER_PRICE: Final = 100
_SETTLED: Final = (OrderState.PAID.value, OrderState.REFUND_DUE.value, OrderState.REFUNDED.value)


class _Accounts:
    """Every buyer has one account and is one person."""

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the person behind each account."""
        return {
            account_id: ResolvedPerson(f"p-{account_id}", f"p-{account_id}", AccountState.ACTIVE)
            for account_id in account_ids
        }


class Shop:
    """Order service, payment service, webhook and provider in one process.

    Args:
        ledger: Client of the real ledger server.
        design: Which faults the provider has.
        setting: Rate of the order database, price, seed.
        stage: The simulated time.
        directory: Where the order database is; the others are kept in memory.

    Attributes:
        slow: The order database's queue.
        order: The order service.
        payment: The payment service.
        webhook: What the provider calls.
        provider: The sandbox.
    """

    def __init__(
        self,
        *,
        ledger: StockClient,
        design: Design,
        setting: Setting,
        stage: Stage,
        directory: Path,
    ) -> None:
        self._orders = Database(
            directory / "orders.sqlite", ORDER_METADATA, is_flushed=False, is_threaded=False
        )
        self._payments = Database(None, PAYMENT_METADATA, is_threaded=False)
        self._inbox = Database(None, INBOX_METADATA, is_threaded=False)
        self.slow = SlowDatabase(self._orders, stage=stage, rate=setting.rate)
        self.provider = SandboxCore(stage.clock, key=_KEY, seed=setting.seed, knobs=_knobs(design))
        self.payment = PaymentCore(
            database=self._payments,
            inbox=self._inbox,
            ledger=ledger,
            providers=[InProcessProvider(self.provider, name=_PROVIDER)],
            clock=stage.clock,
            # Nothing is asked before its time: only then do lost and late callbacks matter.
            settings=PaymentSettings(ask_offsets_seconds=(), calls_at_once_max=1_024),
            random=random.Random(setting.seed),  # noqa: S311 - a repeatable simulation
        )
        self.webhook = Webhook(self._inbox, keys={_PROVIDER: [_KEY]}, clock=stage.clock)
        self.order = OrderCore(
            database=self._orders,
            ledger=ledger,
            persons=PersonDirectory(_Accounts(), stage.clock),
            payments=self.payment,
            prices=Prices(plain(by_sku={SKU: setting.price * _MINOR_PER_PRICE})),
            clock=stage.clock,
            settings=OrderSettings(provider=_PROVIDER),
            runner=self.slow,
        )

    def close(self) -> None:
        """Closes the databases."""
        for database in (self._orders, self._payments, self._inbox):
            database.close()

    def settled(self, order_ids: Collection[str]) -> Sequence[str]:
        """Tells which of a few orders are paid or refunded, as the order database has it."""
        query = sa.select(order_states.c.order_id).where(
            order_states.c.order_id.in_(sorted(order_ids)), order_states.c.state.in_(_SETTLED)
        )
        with self._orders.read() as connection:
            return connection.execute(query).scalars().all()

    def count_orders(self) -> dict[str, int]:
        """Counts the orders by state."""
        query = sa.select(order_states.c.state, sa.func.count()).group_by(order_states.c.state)
        with self._orders.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def order_states(self) -> dict[str, str]:
        """Gives the state of every order."""
        query = sa.select(order_states.c.order_id, order_states.c.state)
        with self._orders.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}


def _knobs(design: Design) -> SandboxKnobs:
    """Translates the faults of a design into the sandbox's."""
    faults = design.faults
    end_ms = int(faults.query_down_until_seconds * 1_000)
    outages = (
        (Outage(Operation.QUERY, 0, end_ms), Outage(Operation.CLOSE, 0, end_ms)) if end_ms else ()
    )
    return SandboxKnobs(
        callback_delay_ms=1_000 + int(faults.callback_late_seconds * 1_000),
        loss_probability=faults.callback_loss,
        duplicate_probability=faults.callback_duplicate,
        outages=outages,
    )
