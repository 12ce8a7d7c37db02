"""Settings and policy as the one JSON text that the native node takes.

Owns the translation; must not check a range (`settings` and `policy` did).
"""

import json

from lastunit_server.machine_memory import default_ledger_bytes
from lastunit_server.policy import AdmissionPolicy
from lastunit_server.settings import Settings

__all__ = ["native_settings_json"]


def native_settings_json(settings: Settings, policy: AdmissionPolicy) -> str:
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
            "admission": {**policy.model_dump(exclude_none=True), "costs": policy.all_costs()},
        }
    )
