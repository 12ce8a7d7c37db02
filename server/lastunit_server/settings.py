"""Every setting of the server with its default, unit and range.

Owns the settings' names and ranges; must not read files or the environment (see `loading`). The
settings of admission live in a file of their own (see `policy`), because operators change them
while a sale runs and the others only at a start.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.functional_validators import AfterValidator

from lastunit_server.methods import Listener
from lastunit_server.security_settings import (
    PERMISSIONS_MAX,
    AuthenticationSettings,
    LimitSettings,
    Permission,
    TlsSettings,
)

__all__ = [
    "Address",
    "ArrivalSettings",
    "ConsoleSettings",
    "DataListener",
    "GateSettings",
    "JournalSettings",
    "MemorySettings",
    "MetricsListener",
    "NativeListeners",
    "NodeTuning",
    "Settings",
    "SettlementListener",
    "TracingSettings",
    "host_and_port",
    "is_loopback",
]

PORT_MAX = 65_535
DATA_ADDRESS = "127.0.0.1:7400"
SETTLEMENT_ADDRESS = "127.0.0.1:7401"
MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE
# As the journal has them: what a place in a segment is, and how many segments wait for use at most.
SLOT_BYTES = 64
PREPARED_SEGMENTS_MAX = 64
# Longer than any payment provider repeats its news.
WEEK_SECONDS = 7 * 24 * 3600
# Longer than any ledger lives.
CENTURY_SECONDS = 3_153_600_000
# The last millisecond of the year 9999, where Timestamp ends.
TIME_MS_MAX = 253_402_300_799_999


def host_and_port(address: str) -> tuple[str, int]:
    """Splits `host:port`.

    Args:
        address: For example `127.0.0.1:7400` or `[::1]:7400`; port 0 lets the kernel choose.

    Returns:
        The host without brackets and the port, 0 to 65535.

    Raises:
        ValueError: The text has another form.
    """
    host, colon, port_text = address.rpartition(":")
    is_port = port_text.isascii() and port_text.isdecimal() and int(port_text) <= PORT_MAX
    if not colon or not host or not is_port:
        raise ValueError(f"is {address!r}, not host:port; write it like 127.0.0.1:7400")
    return host.removeprefix("[").removesuffix("]"), int(port_text)


def is_loopback(address: str) -> bool:
    """Tells whether only this machine can reach an address.

    Args:
        address: `host:port`.

    Returns:
        True for `localhost` and for literal loopback addresses. A host name is not resolved: what
        it means may change after the start.
    """
    host, _port = host_and_port(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_address(address: str) -> str:
    host_and_port(address)
    return address


def _checked_address_or_off(address: str) -> str:
    return address if address == "" else _checked_address(address)


Address = Annotated[str, AfterValidator(_checked_address)]
AddressOrOff = Annotated[str, AfterValidator(_checked_address_or_off)]


def _beside(address: str) -> str:
    """Returns the same host two ports on; a port that the kernel chooses stays so."""
    host, _colon, port = address.rpartition(":")
    if int(port) == 0:
        return address
    return f"{host}:{int(port) + 2}" if int(port) + 2 <= PORT_MAX else ""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataListener(_Section):
    """Where reservations and reads arrive (grpc.aio)."""

    address: AddressOrOff = Field(
        default=DATA_ADDRESS, description='host:port, or "" for the native listener alone'
    )
    max_concurrent_streams: int = Field(
        default=1024,
        ge=1,
        le=100_000,
        description="calls that one connection may have open; more wait in the client",
    )
    streams_max: int = Field(
        default=1000, ge=1, le=100_000, description="Exchange, ReadEvents and Watch streams at once"
    )


class SettlementListener(_Section):
    """Where settlement, operators and control arrive (a sync server on its own queue)."""

    address: AddressOrOff = Field(
        default=SETTLEMENT_ADDRESS, description='host:port, or "" for the native listener alone'
    )
    thread_count: int = Field(
        default=32, ge=2, le=256, description="calls that are worked on at once on this listener"
    )


class NativeListeners(_Section):
    """The same calls without Python on their way (Rust), on two more ports.

    What is set in `[data]`, `[limits]` and of the door holds for them too.
    """

    data_address: AddressOrOff | None = Field(
        default=None,
        description='host:port, or "" for off; left out: that of [data], its port plus 2',
    )
    settlement_address: AddressOrOff | None = Field(
        default=None,
        description='host:port, or "" for off; left out: that of [settlement], its port plus 2',
    )
    thread_count: int = Field(default=2, ge=1, le=64, description="threads of each listener")


class MetricsListener(_Section):
    """Where Prometheus scrapes `/metrics`; only this machine can, by default."""

    address: AddressOrOff = Field(
        default="127.0.0.1:7404",
        description='host:port, or "" for off; unset beside data.address :0 it is a free port too',
    )


class GateSettings(_Section):
    """What front ends are told, and where it is shown over HTTP; no port by default.

    Shares are of what can be borne: calls in flight of their bound, reservations that wait to be
    paid of as many as can be paid in time, lag of payment news of half a reservation's life.
    """

    address: AddressOrOff = Field(default="", description='host:port, or "" for off')
    queue_at: float = Field(
        default=0.8, ge=0.001, le=10, description="a share from which buyers wait outside"
    )
    close_at: float = Field(
        default=1.0, ge=0.001, le=10, description="a share from which nobody new comes in"
    )
    reopen_at: float = Field(
        default=0.5, ge=0, le=10, description="a share down from which it gets better by a step"
    )
    dwell_seconds: float = Field(
        default=1.0, ge=0, le=3600, description="seconds of it for each step"
    )
    settled_per_second: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="reservations that can be paid in a second; 0 leaves the queue unbounded",
    )
    pay_p99_seconds: float = Field(
        default=0.0, ge=0, le=86_400, description="seconds that a payment takes, 99 of 100"
    )
    margin_seconds: float = Field(
        default=0.0, ge=0, le=86_400, description="seconds left over at the end of a reservation"
    )

    @model_validator(mode="after")
    def _are_shares_in_order(self) -> Self:
        if not self.reopen_at < self.queue_at <= self.close_at:
            raise ValueError(
                "the shares are out of order; set reopen_at below queue_at, and queue_at up to"
                " close_at"
            )
        return self


class TracingSettings(_Section):
    """Where spans of calls go; the OTEL_… variables of the environment hold as well."""

    endpoint: str = Field(default="", description="OTLP over gRPC, such as http://127.0.0.1:4317")


class ConsoleSettings(_Section):
    """Where the console is shown to whoever is on call; no port by default."""

    address: AddressOrOff = Field(default="", description='host:port, or "" for off')
    hosts: list[str] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        min_length=1,
        max_length=100,
        description="names under which browsers may ask for it",
    )


class ArrivalSettings(_Section):
    """Where arrivals are kept for `lastunit admission simulate`; off by default."""

    directory: Path | None = Field(
        default=None, description="a directory path of their own; unset for off"
    )
    bytes_max: int = Field(
        default=GIBIBYTE,
        ge=MEBIBYTE,
        le=1024 * GIBIBYTE,
        description="bytes of recording; the oldest go first",
    )


class JournalSettings(_Section):
    """How events reach the disk."""

    durability: Literal["flushed", "written", "memory"] = Field(
        default="flushed",
        description="what a reply waits for: the disk's flush, the system's write, or nothing",
    )
    segment_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=MEBIBYTE // 4,
        le=1024 * MEBIBYTE,
        description="bytes of one file of the journal",
    )
    kept_back_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=0,
        le=1024 * MEBIBYTE,
        description="disk space that only settlement may use; at most what 64 segments hold",
    )
    snapshot_events: int = Field(
        default=200_000,
        ge=1000,
        le=100_000_000,
        description="events between two snapshots at least; half the reservations if that is more",
    )
    history_seconds_min: int = Field(
        default=WEEK_SECONDS,
        ge=0,
        le=CENTURY_SECONDS,
        description="seconds for which events are kept, whoever has read them",
    )
    history_bytes_max: int = Field(
        default=16 * GIBIBYTE,
        ge=MEBIBYTE,
        le=1024 * 1024 * GIBIBYTE,
        description="bytes of journal above which the oldest events go, read or not",
    )
    reader_seconds_max: int = Field(
        default=WEEK_SECONDS,
        ge=1,
        le=CENTURY_SECONDS,
        description="seconds after which a named reader that is silent holds nothing back",
    )

    @model_validator(mode="after")
    def _can_segments_keep_that_back(self) -> Self:
        # As the journal reckons: whole slots of a segment, less its header and its seal.
        each = self.segment_bytes // SLOT_BYTES * SLOT_BYTES - 2 * SLOT_BYTES
        most = PREPARED_SEGMENTS_MAX * each
        if "kept_back_bytes" not in self.model_fields_set:
            # Small segments must not make a default wrong that nobody has chosen.
            object.__setattr__(self, "kept_back_bytes", min(self.kept_back_bytes, most))
        if self.kept_back_bytes > most:
            raise ValueError(
                f"kept_back_bytes is {self.kept_back_bytes}, and segments of {self.segment_bytes}"
                f" bytes can keep back {most} at most; lower it or raise segment_bytes"
            )
        return self


class MemorySettings(_Section):
    """What the ledger may hold in memory."""

    ledger_bytes_max: int = Field(
        default=0,
        ge=0,
        le=1024 * 1024 * GIBIBYTE,
        description="bytes above which Reserve is refused; 0 for two fifths of what there is",
    )

    @field_validator("ledger_bytes_max")
    @classmethod
    def _is_nothing_or_enough(cls, value: int) -> int:
        if 0 < value < MEBIBYTE:
            raise ValueError("is less than 1 MiB; set 0 for two fifths of the machine's memory")
        return value


class NodeTuning(_Section):
    """How the node shares its time; the defaults suit two cores and more."""

    timer_step_limit: int = Field(
        default=256, ge=1, le=4096, description="due commands in one step"
    )
    timer_interval_ms: int = Field(
        default=50, ge=5, le=10_000, description="between looks at the clock"
    )
    batch_chunk_operations: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="operations of a batch that are decided under one lock",
    )
    watch_interval_ms: int = Field(
        default=20, ge=1, le=10_000, description="how long changes are gathered for a watch"
    )


class Settings(_Section):
    """Everything that `lastunit-server serve` can be told. Every key has a default."""

    data_directory: Path = Field(default=Path("lastunit-data"), description="a directory path")
    clock: Literal["system", "manual"] = Field(
        default="system", description="whose time it is; manual is set by RehearsalService.SetClock"
    )
    manual_start_ms: int = Field(
        default=0, ge=0, le=TIME_MS_MAX, description="first ledger time of an empty journal"
    )
    allow_insecure: bool = Field(
        default=False, description="binds more than loopback without encryption and proved names"
    )
    allow_grpcio_beyond_loopback: bool = Field(
        default=False,
        description="shows the grpcio listeners to other machines, although attacks can stop them",
    )
    grace_seconds: float = Field(
        default=20.0,
        ge=0.0,
        le=600.0,
        description="seconds that a stop may take before it is forced",
    )
    admission_file: Path | None = Field(default=None, description="a path of a TOML file")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least that is logged"
    )
    reflection: bool = Field(default=True, description="whether tools can ask for the contract")
    data: DataListener = DataListener()
    settlement: SettlementListener = SettlementListener()
    native: NativeListeners = NativeListeners()
    metrics: MetricsListener = MetricsListener()
    gate: GateSettings = GateSettings()
    tracing: TracingSettings = TracingSettings()
    console: ConsoleSettings = ConsoleSettings()
    arrivals: ArrivalSettings = ArrivalSettings()
    journal: JournalSettings = JournalSettings()
    memory: MemorySettings = MemorySettings()
    node: NodeTuning = NodeTuning()
    tls: TlsSettings = TlsSettings()
    authentication: AuthenticationSettings = AuthenticationSettings()
    permissions: list[Permission] | None = Field(
        default=None,
        max_length=PERMISSIONS_MAX,
        description="rows of [[permissions]]; none lets every caller do everything",
    )
    limits: LimitSettings = LimitSettings()

    def native_addresses(self) -> dict[Listener, str]:
        """Returns where the native listeners go; "" is off."""
        asked = {
            Listener.DATA: (self.native.data_address, self.data.address or DATA_ADDRESS),
            Listener.SETTLEMENT: (
                self.native.settlement_address,
                self.settlement.address or SETTLEMENT_ADDRESS,
            ),
        }
        return {
            listener: _beside(beside) if own is None else own
            for listener, (own, beside) in asked.items()
        }

    def address_of(self, listener: Listener) -> str:
        """Returns where a listener is found: of the grpcio front, or of the native one alone."""
        own = self.data if listener is Listener.DATA else self.settlement
        return own.address or self.native_addresses()[listener]

    @property
    def has_authentication(self) -> bool:
        """Whether a caller must prove its name."""
        return bool(self.authentication.tokens_file or self.tls.client_authorities_file)

    @property
    def metrics_address(self) -> str:
        """Where metrics are served, empty for nowhere.

        A server that takes any free port for its calls would share the default port of metrics
        with the next one, so it takes any free port for them too.
        """
        is_chosen = "address" in self.metrics.model_fields_set
        return (
            "127.0.0.1:0"
            if not is_chosen and self.address_of(Listener.DATA).endswith(":0")
            else self.metrics.address
        )

    @model_validator(mode="after")
    def _is_each_listener_somewhere(self) -> Self:
        for listener in (Listener.DATA, Listener.SETTLEMENT):
            if not self.address_of(listener):
                name = listener.value
                raise ValueError(
                    f"{name}.address and native.{name}_address are both off, so nobody could call"
                    " it; give one of them an address"
                )
        return self

    @model_validator(mode="after")
    def _is_grpcio_only_on_loopback(self) -> Self:
        if self.allow_grpcio_beyond_loopback:
            return self
        native = self.native_addresses()
        for listener, own in (
            (Listener.DATA, self.data.address),
            (Listener.SETTLEMENT, self.settlement.address),
        ):
            name = listener.value
            if own and not is_loopback(own):
                raise ValueError(
                    f"{name}.address = {own!r} shows other machines the grpcio listener, which does"
                    f" not withstand attacks; give them native.{name}_address"
                    f" = {native[listener] or own!r} and leave {name}.address on loopback, or set"
                    " allow_grpcio_beyond_loopback = true if only machines that you trust reach it"
                )
        return self

    @model_validator(mode="after")
    def _is_insecure_only_on_loopback(self) -> Self:
        if self.allow_insecure:
            return self
        is_secured = self.tls.is_on and self.has_authentication
        native = self.native_addresses()
        for name, address in (
            ("data.address", self.data.address),
            ("settlement.address", self.settlement.address),
            ("native.data_address", native[Listener.DATA]),
            ("native.settlement_address", native[Listener.SETTLEMENT]),
        ):
            if address and not is_secured and not is_loopback(address):
                lack = "callers proving who they are" if self.tls.is_on else "encryption"
                raise ValueError(
                    f"{name} = {address!r} is reachable from other machines without"
                    f" {lack}; bind a loopback address, set [tls] and [authentication], or set"
                    " allow_insecure = true if something in front of the server protects it"
                )
        plain = (
            ("metrics", self.metrics.address),
            ("gate", self.gate.address),
            ("console", self.console.address),
        )
        for name, address in plain:
            if address and not is_loopback(address):
                raise ValueError(
                    f"{name}.address = {address!r} is reachable from other machines and"
                    " never encrypted; bind a loopback address, or set allow_insecure = true if"
                    " something in front of the server protects it"
                )
        return self

    @model_validator(mode="after")
    def _are_names_proved(self) -> Self:
        if self.permissions is not None and not self.has_authentication:
            raise ValueError(
                "[[permissions]] without authentication would trust the name that a caller gives"
                " itself; set authentication.tokens_file or tls.client_authorities_file"
            )
        if self.authentication.certificates and not self.tls.client_authorities_file:
            raise ValueError(
                "[authentication.certificates] without tls.client_authorities_file names"
                " certificates that nobody is asked for; set it"
            )
        return self

    @model_validator(mode="after")
    def _are_arrivals_beside_the_journal(self) -> Self:
        directory = self.arrivals.directory
        if directory and directory.absolute().is_relative_to(self.data_directory.absolute()):
            raise ValueError(
                "arrivals.directory lies in data_directory, which holds nothing but the journal;"
                " set a directory beside it"
            )
        return self

    @model_validator(mode="after")
    def _can_sign_in(self) -> Self:
        is_token_taken = self.authentication.tokens_file is not None
        if self.console.address and self.has_authentication and not is_token_taken:
            raise ValueError(
                "console.address without authentication.tokens_file lets nobody sign in; set it,"
                " and make a token with lastunit-server make-token"
            )
        return self

    @model_validator(mode="after")
    def _are_addresses_distinct(self) -> Self:
        native = self.native_addresses()
        keys = {
            "data.address": self.data.address,
            "settlement.address": self.settlement.address,
            "native.data_address": native[Listener.DATA],
            "native.settlement_address": native[Listener.SETTLEMENT],
            "metrics.address": self.metrics_address,
            "gate.address": self.gate.address,
            "console.address": self.console.address,
        }
        owners: dict[str, str] = {}
        for key, address in keys.items():
            if not address or address.endswith(":0"):
                continue
            if (owner := owners.setdefault(address, key)) != key:
                raise ValueError(
                    f"{owner} and {key} share one address, {address}; give each listener its own"
                    " port, so that nothing queues behind what does not concern it (native"
                    " addresses that are left out are those of [data] and [settlement], plus 2)"
                )
        return self
