"""The operator's half of a client: a stall of its own, whose every counter it can foretell.

Owns the admin calls and the counters that follow from their answers. Must not: touch what other
clients count on. Where next: `client.py`, which sends them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.crash.calls import KINDS, Call
from tests.crash.claims import OK, OVERDUE

from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    import random

    from tests.crash.claims import Claim

SKU = "own"
POOLS = ("left", "right")
UNITS_MAX = 50


class Stall:
    """A sale of the client's own, in which only the operator acts, one call at a time."""

    def __init__(self, name: str, chooser: random.Random) -> None:
        self.sale_id = f"stall-{name}"
        self.random = chooser
        # By `pool counter`.
        self.counters: Counter[str] = Counter()
        self.is_busy = False
        self._name = name
        self._number = 0
        self._opening = self._openers()

    def next_call(self, claims: list[Claim]) -> Call:
        """Chooses an admin call; while one of the stall is under way, one that counts nothing."""
        overdue = [claim for claim in claims if claim.state == OVERDUE and not claim.is_busy]
        if overdue and self.random.random() < 0.5:
            overdue[0].is_busy = True
            return self._call("ReleaseUnverified", reservation_id=overdue[0].reservation_id)
        if self.is_busy:
            return self._harmless()
        self.is_busy = True
        return self._opening.pop(0) if self._opening else self._counted()

    def _openers(self) -> list[Call]:
        place = {"sale_id": self.sale_id}
        pools = [
            self._call("PutPool", **place, sku=SKU, pool=pool, is_offered=True) for pool in POOLS
        ]
        return [self._call("PutSale", **place, policy=sale_pb2.SalePolicy()), *pools]

    def _harmless(self) -> Call:
        if self.random.random() < 0.5:
            return self._call("SetExpiryBrake", is_on=False)
        source, target = (f"nobody-{self._name}-{self._number}-{side}" for side in "st")
        if self.random.random() < 0.3:
            return self._call("SplitPersons", person_ids=[source])
        return self._call("MergePersons", source_person_id=source, target_person_id=target)

    def _counted(self) -> Call:
        pool, other = self.random.sample(POOLS, 2)
        units = self.random.randint(1, UNITS_MAX)
        is_buffer = self.random.random() < 0.4
        fields: dict[str, Any] = {"sale_id": self.sale_id, "sku": SKU}
        match self.random.randrange(8):
            case 0 | 1 | 2:
                fields |= {"pool": pool, "units": units, "is_buffer": is_buffer}
                return self._call("SupplyStock", **fields)
            case 3:
                fields |= {"pool": pool, "units": units, "is_buffer": is_buffer}
                return self._call("WithdrawStock", **fields)
            case 4:
                expected = self.counters[f"{pool} available"]
                fields |= {"pool": pool, "expected_available": expected, "available": units}
                return self._call("AdjustStock", **fields)
            case 5:
                fields |= {"source_pool": pool, "target_pool": other, "units": units}
                return self._call("MoveStock", **fields)
            case 6:
                return self._call("PourBuffer", **fields, pool=pool, units=units)
            case _:
                state = self.random.choice((sale_pb2.SALE_STATE_OPEN, sale_pb2.SALE_STATE_PAUSED))
                return self._call("SetSaleState", sale_id=self.sale_id, state=state)

    def _call(self, kind: str, **fields: Any) -> Call:
        self._number += 1
        common = {
            "request_id": f"o-{self._name}-{self._number}",
            "actor": "operator",
            "reason": "crash rounds",
        }
        return Call(KINDS[kind], getattr(admin, f"{kind}Request")(**common, **fields))

    def answered(self, call: Call, response: Any) -> str:
        """Notes the answer to a call of the stall; returns what is wrong with it, or nothing."""
        kind, request = call.kind.name, call.request
        if kind in {"SetExpiryBrake", "MergePersons", "SplitPersons"}:
            return "" if response.result.outcome == OK else f"{kind} was refused: {response.result}"
        self.is_busy = False
        if kind == "SetSaleState":
            # To the state it is in already is refused, which counts nothing either way.
            return ""
        expected = self._effect(kind, request)
        if (response.result.outcome == OK) != (expected is not None):
            return f"{kind} of {self.sale_id}: {response.result}, counters {self.counters}"
        self.counters.update(expected or {})
        return ""

    def _effect(self, kind: str, request: Any) -> dict[str, int] | None:
        """Returns what an OK changes; None if the call must be refused."""
        if kind in {"PutSale", "PutPool"}:
            return {}
        if kind == "MoveStock":
            return self._take(f"{request.source_pool} available", request.units) and {
                f"{request.source_pool} available": -request.units,
                f"{request.source_pool} withdrawn": request.units,
                f"{request.target_pool} available": request.units,
                f"{request.target_pool} supplied": request.units,
            }
        place = (
            f"{request.pool} {'buffer' if getattr(request, 'is_buffer', False) else 'available'}"
        )
        supplied = f"{request.pool} supplied"
        if kind == "SupplyStock":
            return {place: request.units, supplied: request.units}
        if kind == "AdjustStock":
            more = request.available - request.expected_available
            booked = supplied if more > 0 else f"{request.pool} written_off"
            return {f"{request.pool} available": more, booked: abs(more)}
        if kind == "PourBuffer":
            return self._take(f"{request.pool} buffer", request.units) and {
                f"{request.pool} buffer": -request.units,
                f"{request.pool} available": request.units,
            }
        return self._take(place, request.units) and {
            place: -request.units,
            f"{request.pool} withdrawn": request.units,
        }

    def _take(self, place: str, units: int) -> Any:
        return True if self.counters[place] >= units else None
