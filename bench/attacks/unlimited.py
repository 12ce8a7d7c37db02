"""The same server without limits of ours: what every one of them is measured against.

Owns nothing of the server: it empties the list of options before a listener reads it, and makes the
native listeners' limits so large that none is reached. Not a way to run a server; the product has
no switch for it.
"""

from __future__ import annotations

from typing import Any

from lastunit_server import cli, options

# What grpcio 1.85 does without an option, but for the port that two servers must not share and the
# sizes of the contract's messages.
_KEPT = {"grpc.so_reuseport", "grpc.max_receive_message_length", "grpc.max_send_message_length"}

# Natively it is hyper's own bounds that stay: 1,024 resets for its peer's mistakes, and buffers.
_NEVER = 2**31 - 1
_HEADER_BYTES = 16 * 1024 * 1024


def _unlimited(max_concurrent_streams: int, limits: Any) -> list[tuple[str, int]]:
    return [
        (name, value) for name, value in _limited(max_concurrent_streams, limits) if name in _KEPT
    ]


def _native(max_concurrent_streams: int, streams_max: int, limits: Any) -> dict[str, int]:
    names = _native_limited(max_concurrent_streams, streams_max, limits)
    large = dict.fromkeys(names, _NEVER)
    return large | {"waiting_bytes_max": 2**62, "header_bytes_max": _HEADER_BYTES}


_limited = options.listener_options
_native_limited = options.native_limits


def main() -> None:
    """Runs the server's command line without limits."""
    options.listener_options = _unlimited
    options.native_limits = _native
    cli.main()


if __name__ == "__main__":
    main()
