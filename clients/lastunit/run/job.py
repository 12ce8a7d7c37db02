"""Runs a whole sale: services, stock, accounts, buyers, checks, result.

Owns the order of these steps and the certainty that everything is stopped at the end. Must not
hold a rule of stock, orders or payments. Next: ``services.py``, ``opening.py``, ``watch.py``,
``checks.py``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.aio import StockClient
from lastunit.load.plan import LoadPlan
from lastunit.load.tally import Joined
from lastunit.run.checks import Outcome, examine
from lastunit.run.opening import open_sale, register_accounts
from lastunit.run.page import live_page, live_result
from lastunit.run.services import Services
from lastunit.run.watch import Watch
from lastunit.service.children import ChildError

if TYPE_CHECKING:
    from pathlib import Path

    from lastunit.run.sale import SaleFile
    from lastunit.run.view import View
    from lastunit.service.children import Child

__all__ = ["Job", "JobOptions", "as_json"]

LOOK_SECONDS: Final = 0.5
SETTLE_SECONDS_MAX: Final = 120.0
"""Longest wait, in seconds of this machine, for the last open payments after the last buyer."""

CHANNELS_PER_PROCESS: Final = 4
PLACE_CALLS_MAX: Final = 1_024
"""Presses on the wire at once, over all processes of buyers; the others wait at the door."""

POLL_SALE_SECONDS: Final = 15.0
"""Pause, in sale seconds, between two looks of a buyer at an order under way."""

PATIENCE_SECONDS: Final = 240.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What the reader asked for.

    Attributes:
        directory: Where data, logs and the page go.
        html: Where the page goes.
        buyer_processes: Processes that the buyers share, 1 or more.
        kill_ledger_after: Seconds after the buyers came at which the ledger is killed, or ``None``.
        down_seconds: Seconds that it stays dead.
        ledger_settings: Settings of the ledger server, each KEY=VALUE.
    """

    directory: Path
    html: Path
    buyer_processes: int = 2
    kill_ledger_after: float | None = None
    down_seconds: float = 2.0
    ledger_settings: tuple[str, ...] = ()


class Job:
    """One run of the main job.

    Args:
        file: What is sold, to whom, how fast.
        options: What the reader asked for.
        view: Where it is shown.

    Attributes:
        services: The services, once started.
        outcome: What the sale came to, once it is over.
        seconds: Seconds of this machine from the first press to the last settlement.
    """

    def __init__(self, file: SaleFile, options: JobOptions, view: View) -> None:
        self.file, self.options, self.view = file, options, view
        self.services = Services(file, options.directory, ledger_settings=options.ledger_settings)
        self.outcome = Outcome()
        self.seconds = 0.0
        self.ledger_restarts = 0
        self.cpu_seconds: dict[str, float] = {}
        self.watch: Watch | None = None
        self._buyers = Joined()
        self._registered = 0

    async def run(self) -> None:
        """Runs the sale to its end; the services keep running until ``stop``.

        Raises:
            ChildError: A service or the buyers died.
            OpeningError: A service refused what the sale needs.
        """
        view, file = self.view, self.file
        view.say(f"Data and logs are in {self.options.directory}")
        started = time.monotonic()
        await self.services.start(lambda name: view.say(f"starting {name}"))
        async with self._client() as client:
            await open_sale(client, file)
            view.say(f"registering {file.buyers.count:,} accounts")
            accounts = await register_accounts(
                self.services.account_address, file.buyers.count, on_progress=self._note_registered
            )
            took = time.monotonic() - started
            view.say(
                f"ready after {took:.1f} s; {file.buyers.count:,} buyers come for {file.units:,} "
                f"units, one minute of the sale takes {60 * file.run.time_scale:g} s"
            )
            self.watch = Watch(
                client, file, provider_url=self.services.provider_url, buyers=self._buyers
            )
            try:
                await self._sell(accounts, self.watch)
                self.outcome = await examine(client, self.services, file, self._buyers)
            finally:
                await self.watch.close()
        if self.options.kill_ledger_after is not None:
            self.outcome.checks["the ledger was killed and came back"] = self.ledger_restarts == 1
        self._write_page()

    async def stop(self) -> None:
        """Stops everything that was started."""
        await self.services.stop()

    def _client(self) -> StockClient:
        return StockClient(
            self.services.ledger_address,
            settlement_address=self.services.settlement_address,
            caller="lastunit-run",
            deadline_seconds=30.0,
        )

    def _note_registered(self, count: int) -> None:
        self._registered = count

    # The sale

    async def _sell(self, accounts: list[str], watch: Watch) -> None:
        processes = self._plan_buyers(accounts)
        began = time.monotonic()
        killing: asyncio.Task[None] | None = None
        if self.options.kill_ledger_after is not None:
            killing = asyncio.create_task(self._kill_ledger(self.options.kill_ledger_after))
        waits = await self._start_buyers(processes)
        try:
            with self.view:
                await self._look_until_done(waits, watch, began)
            if killing is not None:
                await killing
        finally:
            if killing is not None:
                killing.cancel()
        for wait in waits:
            if wait.result() != 0:
                child = processes[waits.index(wait)][0]
                raise ChildError(f"{child.name} ended early\n{child.last_lines()}")
        self.seconds = time.monotonic() - began

    def _plan_buyers(self, accounts: list[str]) -> list[tuple[Child, LoadPlan]]:
        file, count = self.file, min(self.options.buyer_processes, len(accounts))
        planned = []
        for index in range(count):
            plan = LoadPlan(
                order_address=self.services.order_address,
                account_ids=accounts[index::count],
                sale_id=file.sale.sale_id,
                sku=file.sale.sku,
                views_per_buyer=file.buyers.views_per_buyer,
                arrival_seconds=file.seconds(file.buyers.arrival_seconds),
                think_seconds=file.seconds(file.buyers.think_seconds),
                pay_mean_seconds=file.seconds(file.buyers.pay_mean_seconds),
                pay_probability=file.buyers.pay_probability,
                poll_seconds=file.seconds(POLL_SALE_SECONDS),
                patience_seconds=PATIENCE_SECONDS,
                place_calls_max=PLACE_CALLS_MAX // count,
                channels=CHANNELS_PER_PROCESS,
                seed=file.run.seed * 1_000 + index,
            )
            name = f"buyers-{index + 1}"
            command = [sys.executable, "-m", "lastunit.load.process"]
            planned.append((self.services.child(name, command), plan))
        return planned

    async def _start_buyers(
        self, processes: list[tuple[Child, LoadPlan]]
    ) -> list[asyncio.Task[int]]:
        def listener(name: str) -> Any:
            return lambda message: self._buyers.note(name, message)

        await asyncio.gather(
            *(
                child.start(text=plan.to_json(), on_line=listener(child.name))
                for child, plan in processes
            )
        )
        return [asyncio.create_task(child.wait()) for child, _ in processes]

    async def _look_until_done(
        self, waits: list[asyncio.Task[int]], watch: Watch, began: float
    ) -> None:
        """Looks twice a second until all buyers are done and no payment is open."""
        done_at: float | None = None
        while True:
            sample = await watch.look(time.monotonic() - began)
            self.view.show(watch.samples)
            self.cpu_seconds |= self.services.cpu_seconds()
            dead = self.services.dead()
            if dead is not None and not dead.name.startswith("buyers"):
                raise ChildError(f"{dead.name} ended by itself\n{dead.last_lines()}")
            if all(each.done() for each in waits):
                done_at = done_at or time.monotonic()
                is_open = sample.held or sample.paying or sample.overdue
                is_late = time.monotonic() - done_at > SETTLE_SECONDS_MAX
                if (not is_open and sample.is_ledger_up) or is_late:
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def _kill_ledger(self, after_seconds: float) -> None:
        """Kills the ledger in the middle of the sale and starts it again on its data."""
        await asyncio.sleep(after_seconds)
        self.services.kill_ledger(signal.SIGKILL)
        self.view.say(f"kill -9 of the ledger after {after_seconds:g} s")
        await asyncio.sleep(self.options.down_seconds)
        started = time.monotonic()
        await self.services.restart_ledger()
        self.ledger_restarts += 1
        self.view.say(f"the ledger is back after {time.monotonic() - started:.2f} s of recovery")

    def _write_page(self) -> None:
        assert self.watch is not None
        page = live_page(self.file, self.outcome, self.watch.samples, seconds=self.seconds)
        self.options.html.parent.mkdir(parents=True, exist_ok=True)
        self.options.html.write_text(page, encoding="utf-8")


def as_json(job: Job) -> dict[str, Any]:
    """Gives the result of a run that has ended, ready for ``json.dumps``."""
    outcome = dataclasses.asdict(job.outcome)
    samples = job.watch.samples if job.watch is not None else []
    result = live_result(job.file, job.outcome, samples, seconds=job.seconds)
    return {
        **outcome,
        "units": job.file.units,
        "turnover": result.turnover,
        "seconds": round(job.seconds, 2),
        "calls": samples[-1].calls if samples else 0,
        "calls_per_second": round(samples[-1].calls / job.seconds) if job.seconds else 0,
        "refusals": samples[-1].refusals if samples else {},
        "cpu_seconds": job.cpu_seconds,
        "ledger_restarts": job.ledger_restarts,
        "time_scale": job.file.run.time_scale,
        "seed": job.file.run.seed,
        "holds": job.outcome.holds,
        "html": str(job.options.html),
        "directory": str(job.options.directory),
    }
