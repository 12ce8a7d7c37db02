"""Settings and policy as the one JSON text that the native node takes.

Owns the translation; must not check a range (`settings` and `policy` did).
"""

import json

from lastunit_server.machine_memory import default_ledger_bytes
from lastunit_server.policy import PolicyDocument
from lastunit_server.settings import Settings

__all__ = ["gate_settings_json", "native_settings_json"]

_THOUSANDTHS = 1000


def native_settings_json(settings: Settings, policy: PolicyDocument) -> str:
    """Builds the node's settings.

    Args:
        settings: Checked settings.
        policy: A checked admission policy.

    Returns:
        JSON of the form that `_native.pyi` draws.
    """
    return json.dumps(
        {
            "data_directory": str(settings.data_directory),
            "durability": settings.journal.durability,
            "clock": settings.clock,
            "manual_start_ms": settings.manual_start_ms,
            "journal": {
                "segment_bytes": settings.journal.segment_bytes,
                "kept_back_bytes": settings.journal.kept_back_bytes,
                "snapshot_events": settings.journal.snapshot_events,
                "history_seconds_min": settings.journal.history_seconds_min,
                "history_bytes_max": settings.journal.history_bytes_max,
                "reader_seconds_max": settings.journal.reader_seconds_max,
            },
            "memory": {
                "ledger_bytes_max": settings.memory.ledger_bytes_max or default_ledger_bytes()
            },
            "timer_step_limit": settings.node.timer_step_limit,
            "timer_interval_ms": settings.node.timer_interval_ms,
            "batch_chunk_operations": settings.node.batch_chunk_operations,
            "watch_interval_ms": settings.node.watch_interval_ms,
            "arrivals": _arrivals(settings),
            "policy": {"document": policy.document, "origin": policy.origin},
        }
    )


def _arrivals(settings: Settings) -> dict[str, str | int] | None:
    arrivals = settings.arrivals
    if arrivals.directory is None:
        return None
    return {"directory": str(arrivals.directory), "bytes_max": arrivals.bytes_max}


def gate_settings_json(settings: Settings) -> str:
    """Builds what the node judges gates by.

    Args:
        settings: Checked settings.

    Returns:
        JSON of the form that `_native.pyi` draws.
    """
    gate = settings.gate
    return json.dumps(
        {
            "queue_at": round(gate.queue_at * _THOUSANDTHS),
            "close_at": round(gate.close_at * _THOUSANDTHS),
            "reopen_at": round(gate.reopen_at * _THOUSANDTHS),
            "dwell_ms": round(gate.dwell_seconds * _THOUSANDTHS),
            "settled_per_second_milli": round(gate.settled_per_second * _THOUSANDTHS),
            "pay_p99_ms": round(gate.pay_p99_seconds * _THOUSANDTHS),
            "margin_ms": round(gate.margin_seconds * _THOUSANDTHS),
        }
    )
