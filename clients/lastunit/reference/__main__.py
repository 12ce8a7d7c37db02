"""Serves a reference ledger over gRPC until it is told to stop.

    python -m lastunit.reference --address 127.0.0.1:7400 [--manual-start-ms 1000000]

Prints one line of JSON with the address once it serves.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys

from lastunit.reference.serving import ReferenceServer


def main() -> int:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m lastunit.reference",
        description="Serves a reference ledger over gRPC, to test against. It forgets everything "
        "with its process: never sell with it.",
    )
    parser.add_argument("--address", default="127.0.0.1:0", help="host:port, port 0 is a free one")
    parser.add_argument(
        "--manual-start-ms",
        type=int,
        help="first ledger time; time then only moves by RehearsalService.SetClock",
    )
    arguments = parser.parse_args()
    is_manual = arguments.manual_start_ms is not None
    server = ReferenceServer(
        arguments.address, is_clock_manual=is_manual, now_ms=arguments.manual_start_ms or 0
    )
    server.start()
    ready = {"event": "ready", "service": "reference", "address": server.address}
    print(json.dumps(ready), flush=True)  # noqa: T201 - whoever started it waits for this line
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        server.wait()
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
