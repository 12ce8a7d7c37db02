"""What a reader compares first: lastunit beside the best of each peer, from the medians of one run.

Owns: which loads are set against each other. Where next: `report.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.peers import ledger_peer, postgres_peer, redis_peer, tigerbeetle_peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Row = dict[str, Any]
# Calls in flight at which one call an operation is compared.
IN_FLIGHT = (1, 64, 512)
PEERS = (redis_peer.WAY, postgres_peer.WAY, tigerbeetle_peer.WAY)


def _figures(
    rows: Sequence[Row], figure: str, way: str, *, workers: int = 0, batch: int = 0
) -> list[float]:
    """Returns the medians of a way's loads; 0 takes any number."""
    return [
        row["summary"][figure]["median"]
        for row in rows
        if row["shape"]["way"] == way
        and workers in (0, row["shape"]["workers"])
        and batch in (0, row["shape"]["batch"])
    ]


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Yields a sentence for each comparison of which both sides were measured.

    Args:
        rows: The closed loops of a run.
    """
    rate, cpu = "pairs_per_second", "server_cpu_us"
    for workers in IN_FLIGHT:
        ours = _figures(rows, cpu, ledger_peer.NATIVE, workers=workers, batch=1)
        theirs = _figures(rows, cpu, redis_peer.WAY, workers=workers, batch=1)
        if ours and theirs:
            text = f"One operation a call, {workers} in flight: the native front's CPU for a pair"
            yield f"{text} is {ours[0] / theirs[0]:.2f} times Redis's"
    for batch in (256, 4096):
        for way in PEERS:
            ours = _figures(rows, rate, ledger_peer.EXCHANGE, batch=batch)
            theirs = _figures(rows, rate, way)
            if ours and theirs:
                ratio = ours[0] / max(theirs)
                yield f"Exchange at {batch:,}: {ratio:.1f} times the best of {way}, pairs a second"
    for way in (f"{redis_peer.WAY} from Python", tigerbeetle_peer.PYTHON):
        ours = _figures(rows, rate, ledger_peer.PYTHON)
        theirs = _figures(rows, rate, way)
        if ours and theirs:
            ratio = max(ours) / max(theirs)
            yield f"From one Python process: {ratio:.1f} times the best of {way}, pairs a second"
