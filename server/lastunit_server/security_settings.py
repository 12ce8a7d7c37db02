"""The settings of the door: encryption, who calls, what they may do, how much of the transport.

Owns names, ranges and what belongs together; must not read a file (see `reloading`) nor judge a
call (see `doorkeeper` and the node's table). Secrets never stand here, only paths to them.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic.types import StringConstraints

from lastunit_server.methods import GROUPS, expanded

__all__ = ["AuthenticationSettings", "LimitSettings", "Permission", "TlsSettings"]

# A table that people can still read; the node holds the same bound.
PERMISSIONS_MAX = 1000
NAMES_MAX = 1000
MEBIBYTE = 1024 * 1024

CallerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
_CALLER_OR_EVERY = re.compile(r"\*|[A-Za-z0-9._:-]{1,64}")
_SALE_PATTERN = re.compile(r"[A-Za-z0-9._:*-]{1,64}")
_CERTIFICATE_NAME = re.compile(r"(CN|DNS|URI):\S{1,253}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsSettings(_Section):
    """Files of the listeners' own identity. They are read again when they change."""

    certificate_file: Path | None = Field(
        default=None, description="a path of a PEM file: the server's certificate, then its chain"
    )
    private_key_file: Path | None = Field(default=None, description="a path of a PEM file")
    client_authorities_file: Path | None = Field(
        default=None,
        description="a path of a PEM file; with it each client must show a certificate of one of"
        " these authorities",
    )

    @property
    def is_on(self) -> bool:
        """Whether the listeners speak TLS."""
        return self.certificate_file is not None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError(
                "certificate_file and private_key_file belong together; set both or neither"
            )
        if self.client_authorities_file is not None and self.certificate_file is None:
            raise ValueError(
                "client_authorities_file means nothing without TLS; set certificate_file and"
                " private_key_file too"
            )
        return self


def _known_certificate_names(names: dict[str, str]) -> dict[str, str]:
    wrong = sorted(name for name in names if not _CERTIFICATE_NAME.fullmatch(name))
    if wrong:
        raise ValueError(
            f"{wrong[0]!r} is not a name in a certificate; write CN:name, DNS:host.name or"
            " URI:spiffe://domain/path"
        )
    return names


class AuthenticationSettings(_Section):
    """How a caller's name is proved. Without any of it callers name themselves."""

    tokens_file: Path | None = Field(default=None, description="a path of a TOML file of digests")
    certificates: Annotated[dict[str, CallerName], AfterValidator(_known_certificate_names)] = (
        Field(
            default_factory=dict,
            max_length=NAMES_MAX,
            description="callers by a name in their certificate, such as CN:orders",
        )
    )


def _known_callers(names: list[str]) -> list[str]:
    for name in names:
        if not _CALLER_OR_EVERY.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a caller; write 1 to 64 of [A-Za-z0-9._:-], or * for every one"
            )
    return names


def _known_methods(names: list[str]) -> list[str]:
    for name in names:
        if not expanded(name):
            groups = ", ".join(sorted(GROUPS))
            raise ValueError(
                f"{name!r} is neither a method nor a group; use a method's name such as Reserve,"
                f" or one of: {groups}"
            )
    return names


def _known_sales(patterns: list[str]) -> list[str]:
    for pattern in patterns:
        if not _SALE_PATTERN.fullmatch(pattern):
            raise ValueError(
                f"{pattern!r} is not a sale; write an id of 1 to 64 of [A-Za-z0-9._:-], in which"
                " * stands for any run of characters"
            )
    return patterns


class Permission(_Section):
    """One row: these callers may call these methods on these sales."""

    callers: Annotated[list[str], AfterValidator(_known_callers)] = Field(
        min_length=1, max_length=NAMES_MAX, description="a list of callers' names, or *"
    )
    methods: Annotated[list[str], AfterValidator(_known_methods)] = Field(
        min_length=1, max_length=NAMES_MAX, description="a list of methods or groups"
    )
    sales: Annotated[list[str], AfterValidator(_known_sales)] = Field(
        default=["*"], min_length=1, max_length=NAMES_MAX, description="a list of sales, or *"
    )

    def rule(self) -> dict[str, Any]:
        """Returns the row as the node takes it: each method by its own name."""
        methods = set().union(*(expanded(name) for name in self.methods))
        return {"callers": self.callers, "methods": sorted(methods), "sales": self.sales}


class LimitSettings(_Section):
    """What one stranger may cost. The reasons stand in `options` and docs/operating/door.md."""

    connections_max: int = Field(
        default=4000, ge=1, le=100_000, description="connections of one listener at once"
    )
    connections_per_address_max: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="of them, connections from one address (of IPv6 from one /64); native only",
    )
    connection_age_seconds: int = Field(
        default=1800,
        ge=1,
        le=86_400,
        description="after which a connection is renewed, so that new certificates count",
    )
    connection_idle_seconds: int = Field(
        default=300, ge=1, le=86_400, description="after which a connection without calls is closed"
    )
    handshake_seconds: int = Field(
        default=5, ge=1, le=120, description="until a connection must have said what it wants"
    )
    message_seconds: int = Field(
        default=10, ge=1, le=600, description="until a call's message must have come"
    )
    reader_seconds: int = Field(
        default=20,
        ge=1,
        le=3600,
        description="for which a caller may take nothing of its answers; on grpcio of a stream",
    )
    waiting_bytes_max: int = Field(
        default=128 * MEBIBYTE,
        ge=MEBIBYTE,
        le=1024 * 1024 * MEBIBYTE,
        description="bytes of a listener's answers not taken and messages not whole; native only",
    )
