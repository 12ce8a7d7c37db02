"""Makes authorities and certificates with openssl, as docs/operating/security.md tells operators.

Owns files in a directory of the test; must not know the server.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: str) -> None:
    """Runs openssl; its words are shown if it fails."""
    done = subprocess.run(
        ["openssl", *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """Who signs certificates."""

    directory: Path
    name: str

    @property
    def certificate(self) -> Path:
        """Returns the file to trust."""
        return self.directory / f"{self.name}.crt"

    def sign(self, name: str, alternatives: str = "", *, days: int = 2) -> Pair:
        """Makes a certificate; with -1 days one that has ended."""
        file = self.directory / f"{self.name}-{name}"
        key, request = file.with_suffix(".key"), file.with_suffix(".csr")
        openssl("req", *_NEW_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        extensions = file.with_suffix(".ext")
        # One extension at least: without any, openssl makes a certificate of version 1.
        names = f"subjectAltName={alternatives}\n" if alternatives else ""
        extensions.write_text(f"basicConstraints=CA:FALSE\n{names}")
        openssl(
            *("x509", "-req", "-in", str(request), "-out", str(file.with_suffix(".crt"))),
            *("-CA", str(self.certificate), "-CAkey", str(self.directory / f"{self.name}.key")),
            *("-CAcreateserial", "-extfile", str(extensions), "-days", str(days)),
        )
        return Pair(file.with_suffix(".crt"), key)


def new_authority(directory: Path, name: str = "authority") -> Authority:
    """Makes an authority."""
    authority = Authority(directory, name)
    openssl(
        *("req", "-x509", *_NEW_KEY, "-keyout", str(directory / f"{name}.key")),
        *("-out", str(authority.certificate), "-days", "2", "-subj", f"/CN={name}"),
    )
    return authority
