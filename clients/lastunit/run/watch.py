"""Looks at the sale while it runs, twice a second.

Owns the samples of the live run. Must not change anything. Next: ``view.py`` and ``page.py`` show
the samples.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import httpx

from lastunit.errors import LastunitError

if TYPE_CHECKING:
    from lastunit.client.aio import StockClient
    from lastunit.load.tally import Joined
    from lastunit.run.sale import SaleFile
    from lastunit.stock.v1 import availability_pb2

__all__ = ["LiveSample", "Watch"]

LOOK_SECONDS_MAX: Final = 1.0
"""A look that takes longer shows the last one again: the ledger may just be restarting."""

CALLS: Final = ("PlaceOrder", "Pay", "GetOrder", "pay at the provider")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveSample:
    """How things stood at one moment.

    Attributes:
        seconds: Seconds of this machine since the buyers came.
        available: Units that can be sold.
        held: Units in unpaid reservations.
        paying: Units whose payment is open.
        overdue: Units whose payment is open for too long.
        sold: Units sold.
        calls: Buyers' calls answered so far.
        in_flight: Buyers' calls without an answer.
        charged: Payments the provider has taken.
        paid: Orders that buyers were shown as paid.
        refunded: Orders that buyers were shown as refunded.
        refusals: Presses refused so far, by reason.
        ended: Buyers with a final answer.
        is_ledger_up: Whether the ledger answered this look.
    """

    seconds: float
    available: int = 0
    held: int = 0
    paying: int = 0
    overdue: int = 0
    sold: int = 0
    calls: int = 0
    in_flight: int = 0
    charged: int = 0
    paid: int = 0
    refunded: int = 0
    refusals: dict[str, int] = dataclasses.field(default_factory=dict)
    ended: int = 0
    is_ledger_up: bool = True


class Watch:
    """Takes samples.

    Args:
        client: Of the ledger.
        file: What is sold.
        provider_url: The sandbox.
        buyers: What the buyers have said.
    """

    def __init__(
        self, client: StockClient, file: SaleFile, *, provider_url: str, buyers: Joined
    ) -> None:
        self._client = client
        self._file = file
        self._buyers = buyers
        self._http = httpx.AsyncClient(
            base_url=provider_url, timeout=LOOK_SECONDS_MAX, trust_env=False
        )
        self._charged = 0
        self.samples: list[LiveSample] = []

    async def close(self) -> None:
        """Closes the connection to the sandbox."""
        await self._http.aclose()

    async def look(self, seconds: float) -> LiveSample:
        """Takes a sample and keeps it."""
        counters = await self._counters()
        last = self.samples[-1] if self.samples else LiveSample(seconds=0.0)
        source: Any = last if counters is None else counters
        buyers = self._buyers
        sample = LiveSample(
            seconds=seconds,
            available=source.available,
            held=source.held,
            paying=source.paying,
            overdue=source.overdue,
            sold=source.sold,
            calls=sum(buyers.counter("calls").values()),
            in_flight=buyers.number("in_flight"),
            charged=await self._count_charged(),
            paid=buyers.number("paid"),
            refunded=buyers.number("refunded"),
            refusals=dict(buyers.counter("refusals")),
            ended=buyers.ended,
            is_ledger_up=counters is not None,
        )
        self.samples.append(sample)
        return sample

    async def _counters(self) -> availability_pb2.Counters | None:
        sale = self._file.sale
        try:
            reply = await self._client.get_availability(
                sale.sale_id, skus=[sale.sku], deadline_seconds=LOOK_SECONDS_MAX
            )
        except LastunitError:
            return None
        return reply.response.availabilities[0].counters

    async def _count_charged(self) -> int:
        try:
            response = await self._http.get("/v1/totals")
            self._charged = int(response.json()["paid_count"])
        except (httpx.HTTPError, ValueError, KeyError):
            # A busy sandbox is asked again half a second later.
            return self._charged
        return self._charged
