"""How a client proves who it is and knows whom it talks to.

Owns the files, their checks and the token's renewal. Must not open channels.
Next: `lastunit.client._connection`.
"""

from __future__ import annotations

import ipaddress
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ClientSecurity"]

AUTHORIZATION_KEY: Final = "authorization"
ENVIRONMENT_PREFIX: Final = "LASTUNIT_CLIENT_"
# How soon a renewed token is noticed; a look is one stat call.
_LOOK_SECONDS: Final = 1.0
# A bundle of all public authorities is 250 KiB.
_FILE_BYTES_MAX: Final = 1024 * 1024


@dataclass
class ClientSecurity:
    """Names the files that a client needs to reach a secured server.

    Without any of them a client speaks plain text and names itself, which a server on loopback
    accepts. A token is read again when its file changes; certificates are read when the client is
    made, so a process that renews its own certificate makes a new client.

    Attributes:
        authorities_file: PEM of who signs servers' certificates; turns TLS on.
        certificate_file: PEM of the client's own certificate, for mutual TLS.
        private_key_file: PEM of its key.
        token_file: A text file with one bearer token.
        server_name: Name that the server's certificate must have, if not the address's host.
    """

    authorities_file: Path | None = None
    certificate_file: Path | None = None
    private_key_file: Path | None = None
    token_file: Path | None = None
    server_name: str = ""
    _token: str = field(default="", init=False, repr=False)
    _stamp: tuple[int, int, int] | None = field(default=None, init=False, repr=False)
    _next_look: float = field(default=0.0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuses combinations that protect nothing.

        Raises:
            ValueError: Which files belong together.
        """
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("certificate_file and private_key_file belong together; set both")
        if self.certificate_file is not None and self.authorities_file is None:
            raise ValueError(
                "a certificate is shown over TLS only; set authorities_file, which says whom to"
                " trust"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ClientSecurity:
        """Reads LASTUNIT_CLIENT_AUTHORITIES_FILE and its kin, one variable an attribute.

        Args:
            environment: Variables; the process's if None.

        Raises:
            ValueError: As for the class.
        """
        variables = os.environ if environment is None else environment

        def file(name: str) -> Path | None:
            text = variables.get(f"{ENVIRONMENT_PREFIX}{name}")
            return Path(text) if text else None

        return cls(
            authorities_file=file("AUTHORITIES_FILE"),
            certificate_file=file("CERTIFICATE_FILE"),
            private_key_file=file("PRIVATE_KEY_FILE"),
            token_file=file("TOKEN_FILE"),
            server_name=variables.get(f"{ENVIRONMENT_PREFIX}SERVER_NAME", ""),
        )

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Reads the certificates.

        Returns:
            What opens a channel; None for plain text.

        Raises:
            OSError: A file can't be read.
        """
        if self.authorities_file is None:
            return None
        return grpc.ssl_channel_credentials(
            _read(self.authorities_file),
            _read(self.private_key_file) if self.private_key_file else None,
            _read(self.certificate_file) if self.certificate_file else None,
        )

    def check_address(self, address: str) -> None:
        """Refuses to send a token over the network in the clear.

        Raises:
            ValueError: The address is beyond loopback and TLS is off.
        """
        if self.token_file and self.authorities_file is None and not _is_loopback(address):
            raise ValueError(
                f"a token to {address} would travel in clear text; set authorities_file for TLS"
            )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what each call carries: the token, or nothing."""
        if self.token_file is None:
            return ()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._renew(self.token_file)
        return ((AUTHORIZATION_KEY, f"Bearer {self._token}"),)

    def _renew(self, file: Path) -> None:
        try:
            found = file.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp != self._stamp:
                token = _read(file).decode("ascii").strip()
                self._token, self._stamp = token, stamp
        except (OSError, UnicodeDecodeError):
            # While it is being replaced the old one is still good; without one there is no call.
            if not self._token:
                raise


def _read(file: Path) -> bytes:
    if file.stat().st_size > _FILE_BYTES_MAX:
        raise OSError(
            f"{file} is larger than {_FILE_BYTES_MAX} bytes; point to a PEM or token file"
        )
    return file.read_bytes()


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost" or address.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
