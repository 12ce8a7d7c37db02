"""Channels to the two listeners of one ledger.

Owns the channel options and the pairing of listeners. Must not know single methods.
Next: `lastunit.client.aio`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.client.security import ClientSecurity

__all__ = ["open_channel", "open_sync_channel"]

# What the server sends at most: replies of a full exchange, pages of reservations.
_REPLY_BYTES_MAX: Final = 16 * 1024 * 1024
_REQUEST_BYTES_MAX: Final = 4 * 1024 * 1024

_OPTIONS: Final[Sequence[tuple[str, int | str]]] = (
    ("grpc.max_receive_message_length", _REPLY_BYTES_MAX),
    ("grpc.max_send_message_length", _REQUEST_BYTES_MAX),
    # A dead server behind a silent network path is noticed within 40 s; the server allows a
    # ping each 20 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A restarted server is found within a second, not within gRPC's default of two minutes.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 800),
    # Retries are ours: gRPC's own know nothing of our deadlines for single operations.
    ("grpc.enable_retries", 0),
    # Clients of one process that share an address would share a connection, and settlement
    # would wait behind reservations in it.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(address: str, security: ClientSecurity) -> grpc.aio.Channel:
    """Opens a channel; the connection itself is made by the first call.

    Args:
        address: `host:port`.
        security: Whom to trust and who we are.

    Raises:
        OSError: A file of it can't be read.
        ValueError: A token would travel in clear text.
    """
    credentials, options = _opening(address, security)
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, credentials, options=options)


def open_sync_channel(address: str, security: ClientSecurity) -> grpc.Channel:
    """Is `open_channel` for threads."""
    credentials, options = _opening(address, security)
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)


def _opening(
    address: str, security: ClientSecurity
) -> tuple[grpc.ChannelCredentials | None, list[tuple[str, int | str]]]:
    security.check_address(address)
    options = list(_OPTIONS)
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    return security.credentials(), options
