"""The sales that the load of one round draws on, each with another reason to say no.

Owns names, policies and units. Must not send anything. Next: `plan.py`, which asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import duration_pb2

from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLS: Final = ("near", "far")
PERSONS: Final = 4000
ACTOR: Final = "history"
REASON: Final = "recorded load"


def milliseconds(count: int) -> duration_pb2.Duration:
    """Returns a span."""
    return duration_pb2.Duration(seconds=count // 1000, nanos=count % 1000 * 1_000_000)


@dataclass(frozen=True)
class World:
    """One sale of a round.

    Attributes:
        kind: Ends the sale's id.
        skus: How many, each with two pools.
        units: What each first pool starts with; the second has a quarter, its buffer a tenth.
        policy: Fields of SalePolicy.
    """

    kind: str
    skus: int
    units: int
    policy: dict[str, Any]


# Long enough that no timer of a sale is due while a run lasts, but for the short sale and for holds
# that asked for less: then a round is over when it ends.
_LONG: Final = {
    "reservation_ttl": milliseconds(3 * 3_600_000),
    "settle_by": milliseconds(3 * 3_600_000),
    "max_life": milliseconds(4 * 3_600_000),
    "retry_grace": milliseconds(100),
}
WORLDS: Final = (
    World("plenty", 4, 400_000, {**_LONG, "unpaid_reservations_per_person_max": 0}),
    World("scarce", 8, 60, {**_LONG, "unpaid_reservations_per_person_max": 0}),
    World(
        "limits",
        2,
        100_000,
        {
            **_LONG,
            "units_per_person_per_sku_max": 4,
            "units_per_person_max": 6,
            "unpaid_reservations_per_person_max": 2,
            "does_return_give_limit_back": True,
        },
    ),
    World(
        "short",
        2,
        3000,
        {
            "unpaid_reservations_per_person_max": 0,
            "reservation_ttl": milliseconds(300),
            "settle_by": milliseconds(400),
            "retry_grace": milliseconds(100),
            "max_life": milliseconds(900),
            "is_unverified_release_allowed": True,
        },
    ),
)
# The longest time that Reserve asks to hold units for, when it asks.
TTL_ASKED_MS_MAX: Final = 1500
# Longer than an Extend may ask for in the sales above.
EXTENSION_MS_MAX: Final = 5 * 3_600_000
# When nobody sends anything, every timer of a round has fired after this.
QUIET_SECONDS: Final = 3.0


def sale_id(round_number: int, kind: str) -> str:
    """Returns the id of a round's sale."""
    return f"r{round_number}.{kind}"


def sku_name(index: int) -> str:
    """Returns the name of a sku."""
    return f"sku-{index}"


def set_up(round_number: int) -> Iterator[tuple[str, Any]]:
    """Yields the operator's calls that make the sales of a round: method and request."""
    for world in WORLDS:
        sale = sale_id(round_number, world.kind)
        yield (
            "PutSale",
            admin.PutSaleRequest(
                **signed(f"{sale}.put"), sale_id=sale, policy=sale_pb2.SalePolicy(**world.policy)
            ),
        )
        for index in range(world.skus):
            yield from _stock(sale, sku_name(index), world.units)


def release_brake(round_number: int) -> Iterator[tuple[str, Any]]:
    """Yields the operator's call that lets every hold expire that is due."""
    by = signed(f"r{round_number}.brake")
    yield "SetExpiryBrake", admin.SetExpiryBrakeRequest(**by, is_on=False)


def _stock(sale: str, sku: str, units: int) -> Iterator[tuple[str, Any]]:
    where = {"sale_id": sale, "sku": sku}
    for position, pool in enumerate(POOLS):
        name = f"{sale}.{sku}.{pool}"
        made = admin.PutPoolRequest(
            **signed(f"{name}.put"), **where, pool=pool, position=position, is_offered=True
        )
        yield "PutPool", made
        for is_buffer, given in ((False, units), (True, units // 10)):
            supply = admin.SupplyStockRequest(
                **signed(f"{name}.{is_buffer}"),
                **where,
                pool=pool,
                units=max(1, given // (1 + 3 * position)),
                is_buffer=is_buffer,
            )
            yield "SupplyStock", supply


def signed(request_id: str) -> dict[str, str]:
    """Returns the fields that every operator's request has."""
    return {"request_id": request_id, "actor": ACTOR, "reason": REASON}
