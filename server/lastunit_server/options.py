"""What the transport may cost us: the gRPC options of both listeners, each with its reason.

Owns the numbers; must not know a method. Source of the measured reasons: grpcio 1.85.1, attacked
with bursts of resets, pings, silent connections and oversized headers on two cores.
"""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lastunit_server.security_settings import LimitSettings

__all__ = [
    "CALLS_IN_FLIGHT_MAX",
    "DATA_CALLS_IN_FLIGHT_MAX",
    "EXCHANGE_MESSAGES_IN_FLIGHT_MAX",
    "HALF_OPEN_MAX",
    "MESSAGE_BYTES_MAX",
    "listener_options",
    "native_limits",
]

# The contract's limit of a message; 4,096 operations of an Exchange fit.
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
# Replies of a full Exchange and pages of 1,000 reservations may be larger than what asked for them.
REPLY_BYTES_MAX: Final = 16 * 1024 * 1024
# Ours are below 300 bytes; between the soft and the hard limit grpc refuses at random.
METADATA_BYTES_SOFT: Final = 8 * 1024
METADATA_BYTES_MAX: Final = 16 * 1024
# What a connection past its age gets to finish its calls; streams go on elsewhere.
CONNECTION_AGE_GRACE_MS: Final = 30 * 1000
# A dead client behind a silent network path is noticed within 70 s and its streams are freed.
KEEPALIVE_TIME_MS: Final = 60 * 1000
KEEPALIVE_TIMEOUT_MS: Final = 10 * 1000
# Our client library pings every 30 s or less often; a third ping too early closes the connection.
PING_INTERVAL_MS_MIN: Final = 20 * 1000
PING_STRIKES_MAX: Final = 2
# Calls that have arrived and wait to be taken up. Past grpc's own bounds of 1,000 and 3,000 it
# cancels calls at random and without a word, those of good clients too; the node refuses with a
# reason and when to come back. Above what may be in flight, so that it never refuses first.
PENDING_CALLS_MAX: Final = 32_768
# The settlement server's thread pool has an unbounded queue; this bounds it. Far above what
# payment providers send, because a refusal here would break the promise that settlement is served.
CALLS_IN_FLIGHT_MAX: Final = 4096
# The same for the data listener: what its two lanes may have in flight, so that the node refuses
# first, with a reason, and the transport only what the node would never see.
DATA_CALLS_IN_FLIGHT_MAX: Final = 16_384 + 4096
# Calls between their headers and their message. Far below what hurts: 1,024 tasks of grpc.aio take
# about 20 MiB.
HALF_OPEN_MAX: Final = 1024
# In a rush the headers of thousands are read before the first message is, so on the data listeners
# nobody goes for others who came a moment ago, until there are so many. On the grpcio one that
# leaves calls in flight for others.
HALF_OPEN_RUSH_MAX: Final = 16_384
NATIVE_HALF_OPEN_RUSH_MAX: Final = 32_768
# A machine with much else to do takes seconds to read a rush.
HALF_OPEN_PATIENCE_SECONDS: Final = 5.0
# Native: frames in ten seconds that carry nothing. A client that measures its line answers each
# answer with a ping, so two for each answer come on top.
CONTROL_FRAMES_MAX: Final = 1000
# Native: calls opened and reset again before they were looked at; hyper's own bound.
PENDING_RESETS_MAX: Final = 20
# Messages of one Exchange that are decided and not yet answered; more wait in the transport.
EXCHANGE_MESSAGES_IN_FLIGHT_MAX: Final = 64


def listener_options(max_concurrent_streams: int, limits: "LimitSettings") -> list[tuple[str, int]]:
    """Builds the options of one listener.

    Args:
        max_concurrent_streams: Calls that one connection may have open, 1 or more. Without a bound
            a burst of 40,000 resets took 90 MiB and cut off other clients' calls.
        limits: What an operator may set of connections. Their age spreads them over servers again
            and picks up new certificates; grpc adds 10 % jitter.

    Returns:
        Names and values as grpc takes them.
    """
    return [
        ("grpc.max_concurrent_streams", max_concurrent_streams),
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", REPLY_BYTES_MAX),
        ("grpc.max_metadata_size", METADATA_BYTES_SOFT),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
        ("grpc.max_connection_age_ms", limits.connection_age_seconds * 1000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_MS),
        ("grpc.max_connection_idle_ms", limits.connection_idle_seconds * 1000),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PING_INTERVAL_MS_MIN),
        ("grpc.http2.max_ping_strikes", PING_STRIKES_MAX),
        ("grpc.server_handshake_timeout_ms", limits.handshake_seconds * 1000),
        ("grpc.max_allowed_incoming_connections", limits.connections_max),
        ("grpc.server.max_pending_requests", PENDING_CALLS_MAX),
        ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING_CALLS_MAX),
        # A tarpit holds an answer to what is no good call for a while, and what was sent with it.
        ("grpc.http.tarpit", 0),
        # With 1, the default, a second server on the same port starts without an error and half of
        # the calls reach a ledger that does not know the other half.
        ("grpc.so_reuseport", 0),
    ]


def native_limits(
    max_concurrent_streams: int, streams_max: int, limits: "LimitSettings"
) -> dict[str, int]:
    """Builds the limits of one native listener.

    Args:
        max_concurrent_streams: Calls that one connection may have open, 1 or more.
        streams_max: Streams at once, 1 or more.
        limits: What an operator may set.

    Returns:
        The fields of `Limits` in core_rs/front/src/limits.rs.
    """
    return {
        "max_concurrent_streams": max_concurrent_streams,
        "streams_max": streams_max,
        "connections_max": limits.connections_max,
        "connections_per_address_max": limits.connections_per_address_max,
        "connection_age_ms": limits.connection_age_seconds * 1000,
        "connection_idle_ms": limits.connection_idle_seconds * 1000,
        "handshake_ms": limits.handshake_seconds * 1000,
        "message_wait_ms": limits.message_seconds * 1000,
        "half_open_max": HALF_OPEN_MAX,
        "half_open_rush_max": NATIVE_HALF_OPEN_RUSH_MAX,
        "half_open_patience_ms": round(HALF_OPEN_PATIENCE_SECONDS * 1000),
        "reader_wait_ms": limits.reader_seconds * 1000,
        "waiting_bytes_max": limits.waiting_bytes_max,
        "control_frames_max": CONTROL_FRAMES_MAX,
        "header_bytes_max": METADATA_BYTES_MAX,
        "pending_resets_max": PENDING_RESETS_MAX,
    }
