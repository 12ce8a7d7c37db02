"""The same server with gRPC's own defaults: what every limit of ours is measured against.

Owns nothing of the server: it empties the list of options before a listener reads it. Not a way to
run a server; the product has no switch for it.
"""

from __future__ import annotations

from typing import Any

from lastunit_server import cli, options

# What grpcio 1.85 does without an option, but for the port that two servers must not share and the
# sizes of the contract's messages.
_KEPT = {"grpc.so_reuseport", "grpc.max_receive_message_length", "grpc.max_send_message_length"}


def _unlimited(max_concurrent_streams: int, limits: Any) -> list[tuple[str, int]]:
    return [
        (name, value) for name, value in _limited(max_concurrent_streams, limits) if name in _KEPT
    ]


_limited = options.listener_options


def main() -> None:
    """Runs the server's command line without limits."""
    options.listener_options = _unlimited
    cli.main()


if __name__ == "__main__":
    main()
