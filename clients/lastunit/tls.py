"""Certificates from files: checked before they are used, replaced without a restart.

Owns reading, checking and handing them to grpc; must not know callers. A pair that can't be used is
refused with a reason and never reaches grpc, which would fail every handshake without a word.

grpc asks for the certificates at each handshake, through `dynamic_ssl_server_credentials`; that
works for the sync server and for grpc.aio alike (docs/decisions/0005). The ledger's server and the
services share this module.
"""

from __future__ import annotations

import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a field's type
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EXPIRY_WARNING_DAYS", "Material", "Rotation", "TlsFileError", "load_material"]

# A chain of a few certificates is a few KiB; a bundle of all public authorities is 250 KiB.
_FILE_BYTES_MAX = 1024 * 1024
_DAY_SECONDS = 86_400
# An operator who renews by hand needs a week.
EXPIRY_WARNING_DAYS = 7
# Handshakes in memory take four exchanges; more means that they do not advance.
_HANDSHAKE_STEPS_MAX = 8


class TlsFileError(ValueError):
    """A file that can't be used.

    Attributes:
        file: Which.
        setting: The setting that names it, such as `certificate_file`.
        message: What is wrong, lowercase.
        advice: What to do about it.
    """

    def __init__(self, file: Path, setting: str, message: str, advice: str) -> None:
        super().__init__(f"{file}: {setting}: {message}; {advice}")
        self.file = file
        self.setting = setting
        self.message = message
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Material:
    """What the listeners need to speak TLS; read at one moment and checked.

    Attributes:
        certificate: PEM, the server's certificate and its chain.
        private_key: PEM; never logged, so it is not shown either.
        client_authorities: PEM, or None if clients show no certificate.
        expires: When the server's certificate ends, seconds since the epoch.
    """

    certificate: bytes
    private_key: bytes
    client_authorities: bytes | None
    expires: float

    def __repr__(self) -> str:
        """Shows nothing of the key."""
        return f"Material(expires={self.expires:.0f})"

    @property
    def days_left(self) -> float:
        """Days until the server's certificate ends."""
        return (self.expires - time.time()) / _DAY_SECONDS

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Returns it in grpc's form."""
        pairs = [(self.private_key, self.certificate)]
        return grpc.ssl_server_certificate_configuration(pairs, self.client_authorities)


def load_material(
    certificate_file: Path, private_key_file: Path, client_authorities_file: Path | None
) -> Material:
    """Reads and checks the files.

    Args:
        certificate_file: PEM, the server's certificate and its chain.
        private_key_file: PEM, without a passphrase.
        client_authorities_file: PEM; None asks clients for no certificate.

    Returns:
        What to serve with.

    Raises:
        TlsFileError: A file is missing, no PEM, out of its time, or does not fit the others.
    """
    certificate = _read(certificate_file, "certificate_file")
    private_key = _read(private_key_file, "private_key_file")
    expires = _checked_pair(certificate_file, private_key_file)
    if (certificate, private_key) != (
        _read(certificate_file, "certificate_file"),
        _read(private_key_file, "private_key_file"),
    ):
        message = "was changed while it was read"
        raise TlsFileError(certificate_file, "certificate_file", message, "try again")
    authorities = None
    if client_authorities_file is not None:
        authorities = _read(client_authorities_file, "client_authorities_file")
        _check_authorities(client_authorities_file, authorities)
    return Material(certificate, private_key, authorities, expires)


def _read(file: Path, key: str) -> bytes:
    try:
        if file.stat().st_size > _FILE_BYTES_MAX:
            message = f"is larger than {_FILE_BYTES_MAX} bytes"
            raise TlsFileError(file, key, message, "point to a PEM file")
        return file.read_bytes()
    except OSError as error:
        message = f"can't be read: {error.strerror}"
        raise TlsFileError(file, key, message, "check the path and its permissions") from error


def _checked_pair(certificate_file: Path, key_file: Path) -> float:
    """Checks that a certificate and a key are one pair and in their time; returns the end."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase would ask on the terminal for ever.
        server.load_cert_chain(certificate_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        advice = "use the PEM files of one pair, the key without a passphrase"
        message = f"is no pair with {key_file}: {_reason(error)}"
        raise TlsFileError(certificate_file, "certificate_file", message, advice) from error
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The server's certificate is trusted for itself here: only its form and time are in question.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate_file)
    try:
        shown = _handshake(server, client)
    except ssl.SSLCertVerificationError as error:
        advice = "put a certificate there that is valid now; check this machine's clock too"
        message = f"can't be used: {error.verify_message}"
        raise TlsFileError(certificate_file, "certificate_file", message, advice) from error
    except ssl.SSLError as error:
        message, advice = f"can't be used: {_reason(error)}", "make a new pair, see docs/operating"
        raise TlsFileError(certificate_file, "certificate_file", message, advice) from error
    return float(ssl.cert_time_to_seconds(shown["notAfter"]))


def _no_password() -> str:
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).lower().replace("_", " ")


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> Any:
    """Shakes hands in memory; returns what the client sees of the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(_HANDSHAKE_STEPS_MAX):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return ends[0].getpeercert()


def _check_authorities(file: Path, pem: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key = "client_authorities_file"
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        message, advice = f"is not PEM: {_reason(error)}", "point to certificates of authorities"
        raise TlsFileError(file, key, message, advice) from error
    ends = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in context.get_ca_certs()]
    if not ends:
        message = "holds no authority"
        advice = "point to certificates with basicConstraints CA:TRUE"
        raise TlsFileError(file, key, message, advice)
    if max(ends) < time.time():
        message = "holds no authority that is still valid"
        raise TlsFileError(file, key, message, "put the authority's new certificate there")


class Rotation:
    """The material in force, for any number of listeners; replaced as a whole.

    Args:
        material: What to start with.
    """

    def __init__(self, material: Material) -> None:
        self._material = material
        self._generation = 0
        self._lock = threading.Lock()

    @property
    def material(self) -> Material:
        """What new connections get."""
        return self._material

    def replace(self, material: Material) -> bool:
        """Gives new connections other certificates; open connections keep theirs.

        Returns:
            Whether anything differs.
        """
        with self._lock:
            if material == self._material:
                return False
            self._material = material
            self._generation += 1
            return True

    def credentials(self) -> grpc.ServerCredentials:
        """Makes the credentials of one listener."""
        return grpc.dynamic_ssl_server_credentials(
            self._material.configuration(),
            # Its declared type knows no None, which grpc documents as "nothing new".
            self._fetcher(),  # type: ignore[arg-type]
            require_client_authentication=self._material.client_authorities is not None,
        )

    def _fetcher(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        given = self._generation

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called by grpc's threads at each handshake; None keeps what it has.
            nonlocal given
            with self._lock:
                if given == self._generation:
                    return None
                given = self._generation
                return self._material.configuration()

        return fetch
