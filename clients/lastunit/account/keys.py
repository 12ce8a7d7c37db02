"""The key of the blind index, in a file of its own.

Owns reading and making the file. Must not print a key. Next: `lastunit.account.identifiers`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import Final

from lastunit.account.identifiers import KEY_BYTES

__all__ = ["KeyFileError", "load_or_create_key"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class KeyFileError(Exception):
    """The key file cannot be used; the text says why and what to do."""


def load_or_create_key(path: Path) -> bytes:
    """Reads the key; makes a new one if there is no file.

    Args:
        path: A file with 64 hexadecimal digits that only its owner can read.

    Returns:
        32 bytes.

    Raises:
        KeyFileError: The file is readable by others or holds something else.
    """
    if not path.exists():
        _create(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        raise KeyFileError(
            f"{path} has mode {mode:04o}, so that others can use it; run chmod 600 on it"
        )
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path} must hold {KEY_BYTES * 2} hexadecimal digits; restore it")
    return key


def _create(path: Path) -> None:
    """Puts a whole file in place or none: a torn key would lock every account out."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made with mode 0600, so the key is never readable by others, not even for a moment.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            # Unlike a rename this never replaces the key of a process that was faster.
            os.link(name, path)
    finally:
        Path(name).unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
