"""The file that keeps the keys apart from the database.

Owns reading, making, changing and reading again of the file. Must not print a key.
Next: `lastunit.account.keys`; docs/operating/accounts-privacy.md for operators.

The file is JSON: `{"active": 2, "keys": [{"version": 1, "secret": "64 hexadecimal digits",
"create_time_ms": 0}, …]}`. A file of one line with 64 hexadecimal digits, as it was before keys
had versions, is version 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lastunit.account.keys import KEY_BYTES, VERSIONS_MAX, Key, KeyRing, UnknownKeyVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KeyFile", "KeyFileError", "load_or_create_keys"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

# Sixteen versions take 2 KB; more is something else.
_BYTES_MAX: Final = 16_384

# How soon a changed file is noticed; a look is one stat call.
_LOOK_SECONDS: Final = 1.0

_log: Final = logging.getLogger(__name__)


class KeyFileError(Exception):
    """The key file cannot be used; the text says why and what to do."""


class KeyFile:
    """Lends the keys of a file and notices when it changes.

    Args:
        path: A file that only its owner can read; made with a first key if there is none.
        monotonic_seconds: Tells the time between two looks.

    Raises:
        KeyFileError: The file is readable by others or holds something else.
    """

    def __init__(
        self, path: Path, *, monotonic_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._monotonic_seconds = monotonic_seconds
        self._lock = threading.Lock()
        self._ring = load_or_create_keys(path)
        self._stamp = _stamp(path)
        self._looked_at = monotonic_seconds()

    def ring(self) -> KeyRing:
        """Returns the keys; those of a second ago at the worst.

        A file that cannot be read any more leaves the keys that were read last in use.
        """
        now = self._monotonic_seconds()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._look(now)
        return self._ring

    def ring_with(self, version: int) -> KeyRing:
        """Returns keys that include a version, reading the file at once if need be.

        Raises:
            UnknownKeyVersionError: The file has no such version.
        """
        if version not in self._ring:
            self._look(self._monotonic_seconds())
        if version not in self._ring:
            raise UnknownKeyVersionError(version)
        return self._ring

    def _look(self, now: float) -> None:
        with self._lock:
            self._looked_at = now
            try:
                stamp = _stamp(self.path)
                if stamp == self._stamp:
                    return
                # Noted first, so that a bad file is told of once and not each second.
                self._stamp = stamp
                self._ring = _read(self.path)
            except (KeyFileError, OSError) as error:
                _log.error("the old keys stay in use", extra={"why": str(error)})
            else:
                _log.info("keys renewed", extra={"active": self._ring.active.version})

    def add(self, now_ms: int) -> Key:
        """Adds a version that can be read with at once; new rows stay under the active one.

        Raises:
            KeyFileError: There are 16 already, or the file cannot be written.
        """
        with _changing(self.path) as ring:
            if len(ring.keys) >= VERSIONS_MAX:
                raise KeyFileError(
                    f"{self.path} has {VERSIONS_MAX} versions already, and a look-up tries no more"
                )
            key = Key.made(max(each.version for each in ring.keys) + 1, now_ms)
            _write(self.path, KeyRing([*ring.keys, key], active=ring.active.version))
        self._look(self._monotonic_seconds())
        return key

    def activate(self, version: int) -> None:
        """Lets new rows be written under a version from now on.

        Raises:
            KeyFileError: There is no such version.
        """
        with _changing(self.path) as ring:
            if version not in ring:
                raise KeyFileError(f"{self.path} has no version {version}; add one first")
            _write(self.path, KeyRing(ring.keys, active=version))
        self._look(self._monotonic_seconds())


def load_or_create_keys(path: Path) -> KeyRing:
    """Reads the keys; makes a file with a first one if there is none.

    Raises:
        KeyFileError: The file is readable by others or holds something else.
    """
    if not path.exists():
        _create(path)
    return _read(path)


def _read(path: Path) -> KeyRing:
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OTHERS:
            raise KeyFileError(
                f"{path} has mode {mode:04o}, so that others can use it; run chmod 600 on it"
            )
        data = file.read(_BYTES_MAX + 1)
    try:
        return _parse(data)
    except (ValueError, KeyError, TypeError):
        # The cause would show a key.
        raise KeyFileError(
            f"{path} must hold {KEY_BYTES * 2} hexadecimal digits or the JSON that"
            " 'lastunit account keys add' writes; restore it from its backup"
        ) from None


def _parse(data: bytes) -> KeyRing:
    if len(data) > _BYTES_MAX:
        raise ValueError("it is too long")
    text = data.decode("ascii").strip()
    if not text.startswith("{"):
        return KeyRing.single(_secret(text))
    held: dict[str, Any] = json.loads(text)
    keys = [
        Key(int(each["version"]), _secret(each["secret"]), int(each["create_time_ms"]))
        for each in held["keys"]
    ]
    return KeyRing(keys, active=int(held["active"]))


def _secret(text: str) -> bytes:
    # `fromhex` alone would pass over blanks inside.
    if len(text) != KEY_BYTES * 2:
        raise ValueError("a secret has another length")
    return bytes.fromhex(text)


def _text(ring: KeyRing) -> str:
    keys = sorted(ring.keys, key=lambda key: key.version)
    held = {
        "active": ring.active.version,
        "keys": [
            {
                "version": key.version,
                "secret": key.secret.hex(),
                "create_time_ms": key.create_ms,
            }
            for key in keys
        ],
    }
    return json.dumps(held, indent=1) + "\n"


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _draft(path, _text(KeyRing([Key.made(1)]))) as name, contextlib.suppress(FileExistsError):
        # Unlike a rename this never replaces the key of a process that was faster.
        os.link(name, path)


def _write(path: Path, ring: KeyRing) -> None:
    with _draft(path, _text(ring)) as name:
        name.replace(path)


@contextlib.contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    """Lends a whole file to be put in place: a torn key would lock every account out."""
    # Made with mode 0600, so the keys are never readable by others, not even for a moment.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[KeyRing]:
    """Lends the keys to one process that changes them, while others wait."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        # On the directory: the file itself is replaced.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _read(path)
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
