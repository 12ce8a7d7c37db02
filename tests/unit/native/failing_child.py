"""A process that reserves until a failpoint ends it; prints what was acknowledged."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.unit.native import kit

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server import _native


def main() -> None:
    """Runs until the process is ended from within."""
    journal = {"snapshot_events": 1000, "segment_bytes": 262_144, "kept_back_bytes": 0}
    node = _native.Node(kit.settings(Path(sys.argv[1]), journal=journal))
    kit.put_sale(node, 1_000_000)
    for index in range(100_000):
        reserved = kit.ask(node, "Reserve", kit.reserve(f"r{index}"), stock.ReserveResponse)
        print(f"r{index} {reserved.place.sequence}", flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
