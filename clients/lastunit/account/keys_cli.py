"""The commands `account keys add`, `list` and `rotate`.

Owns their flags and texts. Must not hold rules, and must not print a key.
Next: `lastunit.account.key_file`, `lastunit.account.rotating`.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path  # noqa: TC003 - typer reads it when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from lastunit.service.database_cli import DATABASE_HELP, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit.account.key_file import KeyFile
    from lastunit.account.keys import KeyRing
    from lastunit.service.database import Database

__all__ = ["app"]

app = typer.Typer(
    name="keys",
    help="The keys that personal data is hidden with: add a version, see what is under each, "
    "rotate to the newest.",
    no_args_is_help=True,
)

_DirectoryOption = Annotated[
    "Path | None",
    typer.Option(
        "--data-directory",
        help="Directory of the database and of account.key.",
        envvar="LASTUNIT_ACCOUNT_DATA_DIRECTORY",
    ),
]
_DatabaseOption = Annotated[
    "str | None",
    typer.Option("--database", help=DATABASE_HELP, envvar="LASTUNIT_ACCOUNT_DATABASE"),
]
_KeyFileOption = Annotated[
    "Path | None",
    typer.Option(
        "--key-file",
        help="The keys; by default account.key in the data directory.",
        envvar="LASTUNIT_ACCOUNT_KEY_FILE",
    ),
]


@app.command()
def add(
    *,
    data_directory: _DirectoryOption = None,
    key_file: _KeyFileOption = None,
) -> None:
    """Add a version to the key file; nothing is written under it yet."""
    with _errors():
        keys = _keys(data_directory, key_file)
        key = keys.add(time.time_ns() // 1_000_000)
    typer.echo(
        f"version {key.version} is in {keys.path}; copy the file to every machine that serves, "
        "and to its backup, then run 'lastunit account keys rotate'"
    )


@app.command(name="list")
def list_versions(
    *,
    data_directory: _DirectoryOption = None,
    database: _DatabaseOption = None,
    key_file: _KeyFileOption = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show each version, and how much is under it."""
    from lastunit.account.rotating import usage

    with _errors():
        ring = _keys(data_directory, key_file).ring()
        with _opened(database, data_directory) as opened, opened.read() as connection:
            used = usage(connection)
    versions = sorted({key.version for key in ring.keys} | {*used.identifiers, *used.real_names})
    rows = [
        {
            "version": version,
            "is_active": version == ring.active.version,
            "is_in_file": version in ring,
            "create_time_ms": ring.key(version).create_ms if version in ring else 0,
            "identifiers": used.identifiers.get(version, 0),
            "real_names": used.real_names.get(version, 0),
        }
        for version in versions
    ]
    if is_json:
        typer.echo(json.dumps({"versions": rows, "unsealed_identifiers": used.unsealed}))
        return
    typer.echo("version  state    identifiers  real names")
    for row in rows:
        state = "active" if row["is_active"] else "old" if row["is_in_file"] else "MISSING"
        typer.echo(
            f"{row['version']:>7}  {state:<7}  {row['identifiers']:>11}  {row['real_names']:>10}"
        )
    if used.unsealed:
        typer.echo(
            f"{used.unsealed} identifiers are from before they were kept: they move when their "
            "owners log in"
        )


@app.command()
def rotate(
    *,
    data_directory: _DirectoryOption = None,
    database: _DatabaseOption = None,
    key_file: _KeyFileOption = None,
) -> None:
    """Write under the newest version from now on, and bring what there is under it.

    The service may go on meanwhile. A second run goes on where one was stopped.
    """
    from lastunit.account.rotating import move_some
    from lastunit.account.vault import Vault

    with _errors():
        keys = _keys(data_directory, key_file)
        newest = max(key.version for key in keys.ring().keys)
        with _opened(database, data_directory) as opened:
            # Told first: a process with an old key file stops before it could miss anybody.
            opened.writer.submit(Vault(_Active(keys.ring(), newest)).ring).result()
            keys.activate(newest)
            vault, moved = Vault(keys), 0
            while count := move_some(opened, vault, time.time_ns() // 1_000_000):
                moved += count
    typer.echo(f"version {newest} is active; {moved} identifiers were brought under it")


class _Active:
    """The keys with another version active than the file says yet."""

    def __init__(self, ring: KeyRing, active: int) -> None:
        from lastunit.account.keys import KeyRing

        self._ring = KeyRing(ring.keys, active=active)

    def ring(self) -> KeyRing:
        """Returns them."""
        return self._ring

    def ring_with(self, version: int) -> KeyRing:
        """Returns them; raises UnknownKeyVersionError."""
        self._ring.key(version)
        return self._ring


def _keys(data_directory: Path | None, key_file: Path | None) -> KeyFile:
    from lastunit.account.key_file import KeyFile, KeyFileError
    from lastunit.account.process import KEY_FILE

    path = key_file or (data_directory / KEY_FILE if data_directory else None)
    if path is None:
        raise typer.BadParameter("name the keys with --key-file or --data-directory")
    if not path.exists():
        raise KeyFileError(f"{path} is not there; the first start of the service makes it")
    return KeyFile(path)


@contextlib.contextmanager
def _opened(database: str | None, data_directory: Path | None) -> Iterator[Database]:
    from lastunit.account.process import DATABASE_FILE, open_database
    from lastunit.service.database import place_of

    with open_database(place_of(database, data_directory, DATABASE_FILE)) as opened:
        yield opened


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Ends the program with a sentence that says what to do."""
    from lastunit.account.key_file import KeyFileError
    from lastunit.account.sealing import SealError
    from lastunit.account.vault import KeyMismatchError

    try:
        with told("account"):
            yield
    except (KeyFileError, KeyMismatchError, SealError, OSError) as error:
        typer.echo(f"account: {error}", err=True)
        raise typer.Exit(code=2) from None
