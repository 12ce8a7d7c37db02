"""The certificates of a service's listener and whose calls it takes.

Owns the files, their renewal and the check of a client's name. Must not know methods.
Next: `lastunit.tls` for the checks of the files, `lastunit.service._door` for who asks.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.service.faults import FaultError
from lastunit.tls import Rotation, TlsFileError, load_material

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ServiceSecurity"]

ENVIRONMENT_PREFIX: Final = "LASTUNIT_SERVICE_"
_log: Final = logging.getLogger(__name__)
# How soon a changed file is noticed. A look is a few stat calls.
_LOOK_SECONDS: Final = 1.0
# gRPC's names of what it verified of a certificate, and how settings call it.
_KEYS: Final = {"x509_common_name": "CN:", "peer_dns": "DNS:", "peer_uri": "URI:"}
_NAMES_MAX: Final = 1000


@dataclass(frozen=True)
class ServiceSecurity:
    """Names the files of a service's listener. Without any it speaks plain text.

    Attributes:
        certificate_file: PEM, the service's certificate and its chain.
        private_key_file: PEM of its key, without a passphrase.
        client_authorities_file: PEM; with it each client must show a certificate of one of these.
        client_names: Whose calls are taken, such as `DNS:orders.internal`; empty: every client
            with a certificate of the authorities.
        operator_names: Whose calls of operators' methods are taken, beside all other methods;
            empty: every client that may call at all.
    """

    certificate_file: Path | None = None
    private_key_file: Path | None = None
    client_authorities_file: Path | None = None
    client_names: frozenset[str] = frozenset()
    operator_names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuses combinations that protect nothing.

        Raises:
            ValueError: Which settings belong together.
        """
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ValueError("certificate_file and private_key_file belong together; set both")
        if self.client_authorities_file is not None and self.certificate_file is None:
            raise ValueError("client_authorities_file means nothing without a certificate_file")
        for field in ("client_names", "operator_names"):
            self._check_names(field, getattr(self, field))

    def _check_names(self, field: str, names: frozenset[str]) -> None:
        if names and self.client_authorities_file is None:
            raise ValueError(f"{field} are those of certificates; set client_authorities_file")
        wrong = [name for name in names if not name.startswith((*_KEYS.values(),))]
        if wrong or len(names) > _NAMES_MAX:
            raise ValueError(
                f"{field} {wrong} must be at most {_NAMES_MAX} of CN:name, DNS:host, URI:uri"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ServiceSecurity:
        """Reads LASTUNIT_SERVICE_CERTIFICATE_FILE and its kin; the names have commas.

        Args:
            environment: Variables; the process's if None.

        Raises:
            ValueError: As for the class.
        """
        variables = os.environ if environment is None else environment

        def text(name: str) -> str:
            return variables.get(f"{ENVIRONMENT_PREFIX}{name}", "")

        def file(name: str) -> Path | None:
            return Path(text(name)) if text(name) else None

        def names(name: str) -> frozenset[str]:
            return frozenset(filter(None, (each.strip() for each in text(name).split(","))))

        return cls(
            certificate_file=file("CERTIFICATE_FILE"),
            private_key_file=file("PRIVATE_KEY_FILE"),
            client_authorities_file=file("CLIENT_AUTHORITIES_FILE"),
            client_names=names("CLIENT_NAMES"),
            operator_names=names("OPERATOR_NAMES"),
        )

    def rotation(self) -> Rotation | None:
        """Reads and checks the files.

        Returns:
            What makes credentials; None for plain text.

        Raises:
            TlsFileError: A file can't be used.
        """
        if self.certificate_file is None or self.private_key_file is None:
            return None
        return Rotation(
            load_material(
                self.certificate_file, self.private_key_file, self.client_authorities_file
            )
        )

    async def watch(self, rotation: Rotation) -> None:
        """Reads the files again when they change; runs until it is cancelled."""
        seen = self._look()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            stamps = self._look()
            if stamps != seen:
                seen = stamps
                await asyncio.to_thread(self._renew, rotation)

    def _renew(self, rotation: Rotation) -> None:
        assert self.certificate_file is not None
        assert self.private_key_file is not None
        try:
            material = load_material(
                self.certificate_file, self.private_key_file, self.client_authorities_file
            )
        except TlsFileError as error:
            _log.error("the old certificates stay in use: %s", error)
            return
        if rotation.replace(material):
            _log.info("certificates renewed")

    def _look(self) -> list[tuple[int, int, int] | None]:
        files = (self.certificate_file, self.private_key_file, self.client_authorities_file)
        return [_stamp(file) for file in files if file is not None]

    def check_client(self, context: Any, *, is_for_operators: bool = False) -> None:
        """Lets a call in or not, by the names in the client's certificate.

        Args:
            context: The call's.
            is_for_operators: True for a method that moves money or goods by an operator's word.

        Raises:
            FaultError: PERMISSION_DENIED; the certificate has none of the names.
        """
        if is_for_operators and self.operator_names:
            field, allowed = "operator_names", self.operator_names
        elif self.client_names:
            field, allowed = "client_names", self.client_names | self.operator_names
        else:
            return
        verified = context.auth_context()
        for key, prefix in _KEYS.items():
            for value in verified.get(key) or ():
                if prefix + value.decode("utf-8", "replace") in allowed:
                    return
        raise FaultError(
            grpc.StatusCode.PERMISSION_DENIED,
            "the client's certificate has no name that this service takes such calls of; ask the"
            f" operator to add it to {field}",
            reason="NOT_PERMITTED",
        )


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
