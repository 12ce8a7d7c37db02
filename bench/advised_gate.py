"""Runs the incident's sale three times: to ask the advisor, then with the limits that it advised.

Owns the figure "how much of a reservation's life had passed when its payment was taken". All
services are real processes, the order database has a rate that the buyers drown. In the first run
nothing bounds who waits to be paid. In the second the advisor's Qmax does, through the gate that
the order service keeps to; a gate is looked at ten times a second, and in a rush hundreds are
granted between two looks. In the third the advised credit window stands behind the gate.
Run it as `python -m bench.advised_gate`; it takes about five minutes with the default sale.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.client.peer import PeerClient
from lastunit.errors import LastunitError
from lastunit.run.job import Job, JobOptions
from lastunit.run.sale import Buyers, Pool, Provider, Run, Sale, SaleFile
from lastunit.run.view import View
from lastunit.stock.v1 import reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.client.aio import StockClient

RESULTS = machine.ROOT / "bench" / "results"
SERVICE = "/lastunit.admission.v1.AdmissionService/"
ADVICE = f"{SERVICE}GetAdvice"
ASK_SECONDS = 1.0
QMAX = "queue_count_max"
SUCCEEDED = reservation_pb2.PAYMENT_RESULT_SUCCEEDED


def sale(arguments: argparse.Namespace) -> SaleFile:
    """Makes the incident's sale in the size that was asked for."""
    return SaleFile(
        sale=Sale(sale_id="incident", sku="unit", unit_amount_minor=84_000),
        pools=(Pool(pool="main", units=arguments.units),),
        buyers=Buyers(count=arguments.buyers, think_seconds=60.0, views_per_buyer=100),
        provider=Provider(),
        run=Run(
            time_scale=arguments.time_scale,
            order_transactions_per_second=arguments.rate,
            seed=arguments.seed,
        ),
    )


@dataclasses.dataclass
class Seen:
    """What was seen of one run.

    Attributes:
        advice: The last advice that had a longest queue.
        queue_max: Most reservations that waited to be paid at one look.
        shares: Of each payment that was taken, the share of its reservation's life that had passed.
    """

    advice: messages.GetAdviceResponse | None = None
    queue_max: int = 0
    shares: list[float] = dataclasses.field(default_factory=list)


async def run_once(
    file: SaleFile, directory: Path, settings: Sequence[str] = (), window: str = ""
) -> tuple[Job, Seen]:
    """Runs the sale to its end, asking for advice all the while.

    Args:
        file: The sale.
        directory: For data and logs.
        settings: Of the ledger server, each KEY=VALUE.
        window: Lines for the policy, put before the buyers come.
    """
    options = JobOptions(
        directory=directory, html=directory / "sale.html", ledger_settings=tuple(settings)
    )
    job, seen = Job(file, options, View(file, is_json=True)), Seen()
    asking = asyncio.create_task(keep_asking(job, seen, window))
    try:
        await job.run()
        asking.cancel()
        async with job._client() as client:  # noqa: SLF001 - the same caller as the job's checks
            seen.shares = await shares_of_life(client, file)
    finally:
        asking.cancel()
        await job.stop()
    assert job.watch is not None
    seen.queue_max = max(sample.held + sample.paying for sample in job.watch.samples)
    return job, seen


async def keep_asking(job: Job, seen: Seen, window: str) -> None:
    """Keeps the last advice that had a longest queue; a small sale is over before its run is."""
    while not job.services.order_address:  # noqa: ASYNC110 - the job tells nobody
        await asyncio.sleep(ASK_SECONDS / 10)
    peer = PeerClient(job.services.settlement_address)
    try:
        if window:
            await put(peer, window)
        while True:
            await asyncio.sleep(ASK_SECONDS)
            request, kind = messages.GetAdviceRequest(), messages.GetAdviceResponse
            with contextlib.suppress(LastunitError):
                answer: messages.GetAdviceResponse = await peer.call(ADVICE, request, kind)
                if any(row.key == QMAX for row in answer.advices):
                    seen.advice = answer
    finally:
        await peer.close()


async def put(peer: PeerClient, window: str) -> None:
    """Adds a section to the policy in force."""
    request = messages.GetPolicyRequest()
    held = await peer.call(f"{SERVICE}GetPolicy", request, messages.GetPolicyResponse)
    wanted = messages.PutPolicyRequest(
        document=f"{held.revision.document}\n{window}", actor="bench", reason="as advised"
    )
    await peer.call(f"{SERVICE}PutPolicy", wanted, messages.PutPolicyResponse)


async def shares_of_life(client: StockClient, file: SaleFile) -> list[float]:
    """Reads the journal: from Reserved to the payment's news, in lives of a reservation."""
    life_ms = file.seconds(file.sale.reservation_ttl_seconds) * 1_000
    reserved: dict[str, int] = {}
    shares = []
    async for event in client.read_events(0, follow=False):
        if event.HasField("reserved"):
            reserved[event.reservation_id] = event.time.ToMilliseconds()
        elif event.HasField("payment_settled") and (
            event.payment_settled.payment_result == SUCCEEDED
        ):
            passed = event.time.ToMilliseconds() - reserved[event.reservation_id]
            shares.append(passed / life_ms)
    return shares


def figures(job: Job, seen: Seen) -> dict[str, Any]:
    """Sums one run up."""
    shares = sorted(seen.shares)
    assert job.watch is not None
    return {
        "checks_hold": job.outcome.holds,
        "notes": job.outcome.notes,
        "seconds": round(job.seconds, 1),
        "sold": job.outcome.sold,
        "oversold": job.outcome.oversold,
        "payments": len(shares),
        "queue_max": seen.queue_max,
        "life_share_p50": round(shares[len(shares) // 2], 3) if shares else None,
        "life_share_max": round(shares[-1], 3) if shares else None,
        "beyond_life": sum(share > 1 for share in shares),
        "callback_wait_max_sale_seconds": job.outcome.callback_wait_max,
        "refusals": job.watch.samples[-1].refusals,
    }


def settings_of(advice: messages.GetAdviceResponse, file: SaleFile) -> list[str]:
    """Turns advice into the server's settings, with the margin that it was reckoned with."""
    margin = 0.1 * file.seconds(file.sale.reservation_ttl_seconds)
    rows = [row for row in advice.advices if row.key.startswith("gate.")]
    return [*(f"{row.key}={row.value}" for row in rows), f"gate.margin_seconds={margin}"]


def window_of(advice: messages.GetAdviceResponse) -> str:
    """Turns advice into the policy's section."""
    rows = {row.key: row.value for row in advice.advices}
    floor = rows["window.floor_rate_per_second"]
    return (
        f"[window]\ncredits_max = {rows['window.credits_max']:.0f}\n"
        f"floor_rate_per_second = {floor}\nfloor_burst = {max(1, round(floor))}\n"
        # A machine that carries every service and all buyers is late by more than three reports.
        "reports_missed_max = 20\n"
    )


def main() -> None:
    """Runs all and writes what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1_000)
    parser.add_argument("--buyers", type=int, default=4_000)
    parser.add_argument("--time-scale", type=float, default=0.05)
    parser.add_argument("--rate", type=float, default=3.2, help="transactions a sale second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "advised-gate.json")
    arguments = parser.parse_args()
    file = sale(arguments)
    with tempfile.TemporaryDirectory(prefix="lastunit-advised-") as folder:
        free_job, free = asyncio.run(run_once(file, Path(folder) / "free"))
        if free.advice is None:
            parser.exit(1, "the advisor never had enough to tell a longest queue; raise --units\n")
        settings = settings_of(free.advice, file)
        window = window_of(free.advice)
        gated_job, gated = asyncio.run(run_once(file, Path(folder) / "gated", settings))
        job, bounded = asyncio.run(run_once(file, Path(folder) / "bounded", settings, window))
    result = {
        "command": " ".join(["python -m bench.advised_gate", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.facts(),
        "arguments": {key: str(value) for key, value in vars(arguments).items() if key != "out"},
        "advice": {row.key: [row.value, row.arithmetic] for row in free.advice.advices},
        "settings": settings,
        "window": window,
        "without_bound": figures(free_job, free),
        "with_advised_gate": figures(gated_job, gated),
        "with_advised_gate_and_window": figures(job, bounded),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
