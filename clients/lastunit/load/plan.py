"""Says what a process of buyers is to do.

Owns the message that the parent hands to the process. Must not act on it.
Next: ``buyer.py`` acts, ``process.py`` is the process.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Self

__all__ = ["LoadPlan"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """The work of one process of buyers; every span is in seconds of this machine.

    Attributes:
        order_address: Where the order service listens, ``host:port``.
        account_ids: One account per buyer.
        sale_id: What is on sale.
        sku: What is bought, one unit a buyer.
        views_per_buyer: Presses of "buy" at most, 1 or more.
        arrival_seconds: All press for the first time within this.
        think_seconds: A refused buyer presses again after one to two times this.
        pay_mean_seconds: Mean of the exponential time from the order to the payment.
        pay_probability: Share of buyers with a unit who pay.
        poll_seconds: Pause between two looks at an order whose payment is under way.
        patience_seconds: Seconds a buyer keeps asking without any answer.
        place_calls_max: PlaceOrder calls on the wire at once; other presses wait their turn here,
            as they do before a front end with so many connections. Who has a unit does not wait.
        channels: Connections that the buyers share.
        seed: Random seed; each process has its own.
    """

    order_address: str
    account_ids: list[str]
    sale_id: str
    sku: str
    views_per_buyer: int
    arrival_seconds: float
    think_seconds: float
    pay_mean_seconds: float
    pay_probability: float
    poll_seconds: float
    patience_seconds: float
    place_calls_max: int
    channels: int
    seed: int

    def to_json(self) -> str:
        """Writes the plan as one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads a plan.

        Raises:
            ValueError: The text is no plan.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            return cls(**values)
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"standard input holds no load plan: {error}") from error
