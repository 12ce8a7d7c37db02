"""What the console shows, out of what the node and the gates tell.

Owns the choice and the form; must not count: numbers are totals since the start, and the page makes
rates of two looks. Next: `console.py`.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lastunit_server._native import Node
    from lastunit_server.gates import Gate, Gates

__all__ = ["facts", "gate_facts"]

# Rows that a person can still look through.
_CALLERS_MAX = 20
_GATES_MAX = 50
_REFUSED = "refused_"
_COUNT = "_count"
# Of all refused, those that can never be let in: a part, not a reason.
_NEVER = "refused_never_count"


def facts(node: "Node", gates: "Gates") -> dict[str, Any]:
    """Takes one look.

    Args:
        node: The open node.
        gates: Its gates.

    Returns:
        What is sent to every page as JSON.
    """
    told: dict[str, Any] = json.loads(node.metrics_json())
    admission = told["admission"]
    ledger = told["ledger"] or {}
    shown = gates.all()
    return {
        "phase": told["phase"],
        "reason": told["reason"],
        "cause": told["cause"],
        "epoch": told["epoch"],
        "sequence": told["sequence"],
        "time_ms": ledger.get("time_ms"),
        "oldest_overdue_time_ms": ledger.get("oldest_overdue_time_ms"),
        "brake": ledger.get("brake"),
        "units": dict(list(ledger.get("units", {}).items())[:_GATES_MAX]),
        "open_call_count": told["open_call_count"],
        "lanes": {
            name: _lane(lane, told["waiting"][name]) for name, lane in admission["lanes"].items()
        },
        "hopeless_count": admission["hopeless_count"],
        "window": admission["window"],
        "callers": _callers(admission),
        "flush": told["flush"],
        "queue": told["queue"],
        "settlement_lag": told["settlement_lag"],
        "gates": [gate_facts(gates, gate) for gate in shown[:_GATES_MAX]],
        "gates_left_out_count": max(0, len(shown) - _GATES_MAX),
    }


def _lane(lane: dict[str, Any], waiting: dict[str, int]) -> dict[str, Any]:
    refused = {
        key.removeprefix(_REFUSED).removesuffix(_COUNT): count
        for key, count in lane.items()
        if key.startswith(_REFUSED) and key != _NEVER
    }
    refused_count = sum(refused.values())
    return {
        "offered": lane["admitted_count"] + refused_count,
        "admitted": lane["admitted_count"],
        "refused": refused_count,
        "refused_by": {reason: count for reason, count in refused.items() if count},
        "in_flight": lane["in_flight"],
        "in_flight_peak": lane["in_flight_peak"],
        "waiting": waiting["waiting_count"],
        "tokens": lane["tokens"],
    }


def _callers(admission: dict[str, Any]) -> list[dict[str, Any]]:
    """Ranks callers by what they offered; those without a bucket of their own are one row."""
    rows = [_caller(name, counts) for name, counts in admission["callers"].items()]
    if any(admission["overflow"].values()):
        rows.append(_caller("(all others)", admission["overflow"]))
    rows.sort(key=lambda row: (-row["offered"], row["name"]))
    return rows[:_CALLERS_MAX]


def _caller(name: str, counts: dict[str, int]) -> dict[str, Any]:
    admitted, refused = counts["admitted_count"], counts["refused_count"]
    return {"name": name, "offered": admitted + refused, "admitted": admitted, "refused": refused}


def gate_facts(gates: "Gates", gate: "Gate") -> dict[str, Any]:
    """Returns one gate with the order that holds it."""
    order = gates.order_of(gate)
    return {
        **asdict(gate),
        "revision": gates.revision_of(gate.sale_id),
        "order": order.model_dump() if order else None,
    }
