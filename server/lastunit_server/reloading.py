"""Security that changes while the server runs: read again at SIGHUP and when a file changes.

Owns when to read, what may change and what is said about it; must not serve a call. Everything is
read and checked before anything is put in force, so a half-written file changes nothing: the old
stays in use, and the next change of the file is another try.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lastunit.tls import EXPIRY_WARNING_DAYS, Material, Rotation, TlsFileError, load_material
from lastunit_server import logs
from lastunit_server.doorkeeper import Credentials, Doorkeeper, permission_table
from lastunit_server.errors import Problem, SettingsError
from lastunit_server.loading import load_tokens
from lastunit_server.stamps import Stamp, stamp

if TYPE_CHECKING:
    from lastunit_server._native import Node
    from lastunit_server.security_settings import TlsSettings
    from lastunit_server.settings import Settings

__all__ = ["LoadedSecurity", "Security", "load_security"]

# How soon a changed file is noticed. A look is a few stat calls.
_LOOK_SECONDS = 1.0
_DAY_SECONDS = 86_400.0
# What a reload puts in force; the rest of the settings holds until a restart.
_RELOADED = {"tls", "authentication", "permissions"}
# Others on the machine have no business with a private key.
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class LoadedSecurity:
    """Everything that the door needs from files, read and checked.

    Attributes:
        material: Certificates; None without TLS.
        credentials: What callers are known by.
        table: The permissions in the node's form; None lets every caller do everything.
        stamps: How each file looked before it was read, so that no change is missed.
    """

    material: Material | None
    credentials: Credentials
    table: str | None
    stamps: "dict[Path, Stamp]"


def load_security(settings: "Settings") -> LoadedSecurity:
    """Reads what the settings point to.

    Args:
        settings: Checked settings.

    Returns:
        Certificates, tokens and table, ready to be put in force.

    Raises:
        SettingsError: A file can't be used; says which and why.
    """
    stamps = {file: stamp(file) for file in _files(settings)}
    credentials = Credentials(
        tokens=load_tokens(settings.authentication.tokens_file),
        certificates=dict(settings.authentication.certificates),
        has_certificates=settings.tls.client_authorities_file is not None,
    )
    material = _load_material(settings.tls)
    return LoadedSecurity(material, credentials, permission_table(settings.permissions), stamps)


def _load_material(tls: "TlsSettings") -> Material | None:
    if tls.certificate_file is None or tls.private_key_file is None:
        return None
    try:
        return load_material(
            tls.certificate_file, tls.private_key_file, tls.client_authorities_file
        )
    except TlsFileError as error:
        key = f"tls.{error.setting}"
        problem = Problem(str(error.file), key, error.message, error.advice)
        raise SettingsError([problem]) from error


class Security:
    """The security in force and the way to another.

    Args:
        node: The open node.
        settings: What the server was started with.
        loaded: What was read then.
        read_settings: Reads the settings again, from the same sources.
        config_file: The settings file, watched like the files that it names; None if there is none.
        config_stamp: How it looked before it was read.
    """

    def __init__(
        self,
        node: "Node",
        settings: "Settings",
        loaded: LoadedSecurity,
        *,
        read_settings: "Callable[[], Settings]",
        config_file: Path | None,
        config_stamp: Stamp,
    ) -> None:
        self.loaded = loaded
        self._settings = settings
        self._read_settings = read_settings
        self._config_file = config_file
        self._asked = asyncio.Event()
        self._stamps = dict(loaded.stamps)
        if config_file is not None:
            self._stamps[config_file] = config_stamp
        self._next_warning = 0.0
        self.rotation = Rotation(loaded.material) if loaded.material else None
        self.doorkeeper = Doorkeeper(node, loaded.credentials)
        self._followers: list[Callable[[LoadedSecurity], None]] = []
        self.doorkeeper.replace(loaded.credentials, loaded.table)
        _warn_of_open_key(settings)

    def follow(self, follower: "Callable[[LoadedSecurity], None]") -> None:
        """Has a front of another kind told of each change that is in force."""
        self._followers.append(follower)

    def ask(self) -> None:
        """Has everything read again soon, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Reads again when asked to or when a file changed; runs until it is cancelled."""
        while True:
            self._warn_of_expiry()
            is_asked = await self._wait()
            stamps = self._look()
            if is_asked or stamps != self._stamps:
                # Taken before reading: what is written meanwhile is one more change.
                self._stamps = stamps
                await asyncio.to_thread(self.reload)

    async def _wait(self) -> bool:
        try:
            await asyncio.wait_for(self._asked.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _look(self) -> dict[Path, Stamp]:
        files = [*_files(self._settings), *([self._config_file] if self._config_file else [])]
        return {file: stamp(file) for file in files}

    def reload(self) -> bool:
        """Reads and checks everything, then puts it in force as a whole.

        Returns:
            Whether it was; otherwise the old stays in use and the log says why.
        """
        try:
            settings = self._read_settings()
            self._check_fixed(settings)
            loaded = load_security(settings)
            self.doorkeeper.replace(loaded.credentials, loaded.table)
        except (SettingsError, ValueError) as error:
            problems = error.problems if isinstance(error, SettingsError) else (error,)
            logs.event(
                "reload_refused",
                level=logging.ERROR,
                problems=[str(problem) for problem in problems],
                advice="the old certificates, tokens and permissions stay in use; correct the file",
            )
            return False
        if self.rotation is not None and loaded.material is not None:
            self.rotation.replace(loaded.material)
        self.loaded = loaded
        for follower in self._followers:
            follower(loaded)
        self._settings = settings
        self._next_warning = 0.0
        _warn_of_open_key(settings)
        logs.event("reloaded", what=sorted(_RELOADED), has_table=loaded.table is not None)
        return True

    def _check_fixed(self, settings: "Settings") -> None:
        """Refuses what a running listener can't follow; names what waits for a restart."""
        now, then = settings.tls, self._settings.tls
        for key in ("certificate_file", "client_authorities_file"):
            if (getattr(now, key) is None) != (getattr(then, key) is None):
                source = str(self._config_file or "settings")
                message = "was set or removed while the server runs"
                advice = "restart the server to switch it on or off"
                raise SettingsError([Problem(source, f"tls.{key}", message, advice)])
        names = [name for name in type(settings).model_fields if name not in _RELOADED]
        changed = [
            name for name in names if getattr(settings, name) != getattr(self._settings, name)
        ]
        if changed:
            logs.event(
                "settings_wait_for_restart",
                level=logging.WARNING,
                keys=changed,
                advice="only tls, authentication and permissions are read while the server runs",
            )

    def _warn_of_expiry(self) -> None:
        if self.rotation is None or time.monotonic() < self._next_warning:
            return
        self._next_warning = time.monotonic() + _DAY_SECONDS
        days_left = self.rotation.material.days_left
        if days_left < EXPIRY_WARNING_DAYS:
            logs.event(
                "certificate_ends_soon",
                level=logging.WARNING,
                days_left=round(days_left, 1),
                file=str(self._settings.tls.certificate_file),
                advice="put a new pair in its place; it is read without a restart",
            )


def _files(settings: "Settings") -> Iterator[Path]:
    """Yields the files that the settings point to."""
    tls = settings.tls
    named = (
        settings.authentication.tokens_file,
        tls.certificate_file,
        tls.private_key_file,
        tls.client_authorities_file,
    )
    yield from (file for file in named if file is not None)


def _warn_of_open_key(settings: "Settings") -> None:
    key_file = settings.tls.private_key_file
    if key_file is None:
        return
    mode = key_file.stat().st_mode
    if mode & _OTHERS:
        logs.event(
            "private_key_is_open",
            level=logging.WARNING,
            file=str(key_file),
            mode=f"{mode & 0o777:o}",
            advice="let only the server's account read it: chmod 600",
        )
