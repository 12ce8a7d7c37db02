"""Keys are replaced while the service runs, and nobody is lost or doubled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from lastunit.account import _tables
from lastunit.account.cli import app
from lastunit.account.key_file import KeyFile
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.errors import UnavailableError

from .house import House, email

if TYPE_CHECKING:
    from pathlib import Path

    from lastunit.service.database import Database

ANNA = email("anna@example.org")
CAROL = email("carol@example.org")


def run(*words: str) -> str:
    """Runs a command and returns what it printed."""
    result = CliRunner().invoke(app, ["keys", *words])
    assert result.exit_code == 0, result.output
    return result.output


def options(place: Path | sa.URL, key_path: Path) -> list[str]:
    """Returns the flags that lead a command to a database and its keys."""
    if isinstance(place, sa.URL):
        url = place.set(drivername="postgresql").render_as_string(hide_password=False)
        return ["--database", url, "--key-file", str(key_path)]
    return ["--data-directory", str(place.parent), "--key-file", str(key_path)]


async def test_everybody_is_found_during_and_after_a_rotation(
    database: Database, place: Path | sa.URL, tmp_path: Path
) -> None:
    """Old and new accounts log in, repeats are repeats, and real names still meet."""
    path = tmp_path / "keys" / "account.key"
    seconds = [0.0]
    house = House(database, keys=KeyFile(path, monotonic_seconds=lambda: seconds[0]))
    anna = await house.register(ANNA)
    name = pb.RealName(name="Anna Example", number="L01X00T47")
    await house.calls.BindRealName(
        pb.BindRealNameRequest(request_id="q-n", account_id=anna.account_id, real_name=name), None
    )
    flags = options(place, path)
    added = run("add", "--key-file", str(path))
    listed = json.loads(run("list", "--json", *flags))
    rotated = run("rotate", *flags)
    # The service has not looked at the file since; the next transaction makes it.
    again = await house.register(ANNA)
    carol = await house.register(CAROL)
    met = await house.calls.BindRealName(
        pb.BindRealNameRequest(request_id="q-m", account_id=carol.account_id, real_name=name), None
    )
    house.pass_time(seconds=3_600)
    seconds[0] += 10
    back = await house.log_in(ANNA)
    after = json.loads(run("list", "--json", *flags))["versions"]

    assert "version 2" in added
    assert [row["identifiers"] for row in listed["versions"]] == [1, 0]
    assert "version 2 is active; 1 identifiers" in rotated
    assert (again.created, again.account_id) == (False, anna.account_id)
    assert back.account_id == anna.account_id
    assert met.refusal == pb.REFUSAL_IDENTITY_BOUND
    assert [(row["version"], row["is_active"]) for row in after] == [(1, False), (2, True)]
    assert [row["identifiers"] for row in after] == [0, 2]
    # The number was given once more, so its fingerprint is under the new key too.
    assert [row["real_names"] for row in after] == [1, 1]


async def test_a_process_with_an_old_key_file_stops_instead_of_doubling(
    database: Database, place: Path | sa.URL, tmp_path: Path
) -> None:
    """It would not find whom another process has moved, so it says that it lacks the version."""
    path, old = tmp_path / "keys" / "account.key", tmp_path / "old" / "account.key"
    house = House(database, keys=KeyFile(path))
    await house.register(ANNA)
    old.parent.mkdir()
    old.write_bytes(path.read_bytes())
    old.chmod(0o600)
    behind = House(database, keys=KeyFile(old), clock=house.clock)
    run("add", "--key-file", str(path))
    run("rotate", *options(place, path))
    code = await house.code(ANNA)
    request = pb.RegisterRequest(request_id="q-late", identifier=ANNA, proof=code)
    with pytest.raises(UnavailableError, match="newest key file"):
        await behind.calls.Register(request, None)
    old.write_bytes(path.read_bytes())
    mended = await behind.calls.Register(request, None)
    with database.read() as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(_tables.accounts))

    assert not mended.created
    assert count == 1


async def test_a_rotation_goes_on_where_it_was_stopped(
    database: Database, place: Path | sa.URL, tmp_path: Path
) -> None:
    """More rows than fit into a portion are all moved; a second run has nothing to do."""
    path = tmp_path / "keys" / "account.key"
    house = House(database, keys=KeyFile(path))
    house.parts.registrar._is_proof_asked = False
    await house.calls.RegisterAccounts(
        pb.RegisterAccountsRequest(
            registrations=[
                pb.RegisterRequest(
                    request_id=f"q-{number}", identifier=email(f"buyer-{number}@example.org")
                )
                for number in range(1_000)
            ]
        ),
        None,
    )
    run("add", "--key-file", str(path))
    first = run("rotate", *options(place, path))
    second = run("rotate", *options(place, path))

    assert "1000 identifiers" in first
    assert " 0 identifiers" in second
    assert "active" in run("list", *options(place, path))


@pytest.mark.parametrize("command", ["add", "list", "rotate"])
def test_a_missing_key_file_is_not_made_by_a_command(tmp_path: Path, command: str) -> None:
    """A typing error must not make a second key; the error says where the file comes from."""
    result = CliRunner().invoke(app, ["keys", command, "--data-directory", str(tmp_path)])

    assert result.exit_code == 2
    assert "first start of the service makes it" in result.output
    assert list(tmp_path.iterdir()) == []


def test_commands_ask_for_what_they_need() -> None:
    """Without a place of the keys the error names both flags."""
    result = CliRunner().invoke(app, ["keys", "add"])

    assert result.exit_code == 2
    assert "--key-file" in result.output
