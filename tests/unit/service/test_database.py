"""Where a service keeps its tables: one setting, clear errors, and never a password."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from lastunit import errors
from lastunit.account.cli import app as account_app
from lastunit.order.cli import app as order_app
from lastunit.payment.cli import app as payment_app
from lastunit.service import database as databases
from lastunit.service._engines import named
from lastunit.service.database import Database, DatabaseUrlError, parse_url, place_of

SECRET = "hunter2-and-more"

# Nobody listens there.
DEAD = f"postgresql://shop:{SECRET}@127.0.0.1:9/shop"


def test_a_url_names_a_database_and_hides_its_password() -> None:
    """Libpq's words go through; what may be read of it has stars in place of the password."""
    url = parse_url(f"postgresql://shop:{SECRET}@db.example:5433/shop?sslmode=verify-full")

    assert (url.host, url.port, url.database) == ("db.example", 5433, "shop")
    assert url.query == {"sslmode": "verify-full"}
    assert named(url) == "postgresql://shop:***@db.example:5433/shop?sslmode=verify-full"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("./order.sqlite", "--data-directory"),
        (f"mysql://shop:{SECRET}@db/shop", "--data-directory"),
        (f"postgresql://shop:{SECRET}@db", "names no database"),
        (f"postgresql://shop:{SECRET}@db:port/shop", "cannot be read"),
        (f"postgresql://db/shop?password={SECRET}", "PGPASSFILE"),
    ],
)
def test_what_is_no_database_is_refused_without_its_password(text: str, message: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(DatabaseUrlError) as caught:
        parse_url(text)

    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_one_of_url_and_directory_is_needed() -> None:
    """A URL wins, an empty one is none, and without either the error names both settings."""
    assert place_of("", Path("here"), "order.sqlite") == Path("here/order.sqlite")
    assert isinstance(place_of("postgres://db/shop", Path("here"), "x"), sa.URL)
    with pytest.raises(DatabaseUrlError, match=r"--data-directory.*--database"):
        place_of(None, None, "order.sqlite")


def test_a_server_that_is_not_there_is_waited_for_and_then_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Error and log name the database and never its password."""
    monkeypatch.setattr(databases, "START_SECONDS_MAX", 0.3)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(errors.UnavailableError) as caught,
    ):
        Database(parse_url(DEAD), sa.MetaData())
    logged = " ".join(str(record.__dict__) for record in caplog.records)

    assert "postgresql://shop:***@127.0.0.1:9/shop cannot be opened" in str(caught.value)
    assert "waiting for the database" in logged
    assert SECRET not in str(caught.value) + logged


@pytest.mark.parametrize(
    ("app", "files"),
    [
        (order_app, ["order"]),
        (payment_app, ["payment", "inbox"]),
        (account_app, ["account"]),
    ],
)
def test_the_commands_show_upgrade_and_compare(
    app: object, files: list[str], tmp_path: Path
) -> None:
    """Before an upgrade there are no tables and check fails; after it all is well."""
    runner = CliRunner()

    def run(command: str) -> tuple[int, str]:
        words = ["database", command, "--data-directory", str(tmp_path)]
        result = runner.invoke(app, words)  # type: ignore[arg-type] # an app of typer
        return result.exit_code, result.output

    before, unwell, upgraded, well, after = map(
        run, ("current", "check", "upgrade", "check", "current")
    )

    for name in files:
        assert f"{name}: no tables, needs 00" in before[1]
        assert f"{name}: version none, needs 00" in unwell[1]
        assert f"{name}: no tables -> 00" in upgraded[1]
        assert f"{name}: 00" in after[1]
    assert [before[0], unwell[0], upgraded[0], well[0], after[0]] == [0, 1, 0, 0, 0]


def test_a_command_ends_with_a_sentence_when_the_server_is_not_there() -> None:
    """Neither a traceback nor a password is shown."""
    result = CliRunner().invoke(
        order_app, ["database", "current"], env={"LASTUNIT_ORDER_DATABASE": DEAD}
    )

    assert result.exit_code == 2
    assert "order: postgresql://shop:***@127.0.0.1:9/shop cannot be opened" in result.output
    assert SECRET not in result.output
    assert "Traceback" not in result.output


def test_a_file_that_is_none_of_ours_ends_a_command_with_a_sentence(tmp_path: Path) -> None:
    """What SQLite says of it is shown, without a traceback."""
    (tmp_path / "order.sqlite").write_bytes(b"no database at all, and long enough to be read" * 99)
    result = CliRunner().invoke(
        order_app, ["database", "current", "--data-directory", str(tmp_path)]
    )

    assert result.exit_code == 2
    assert "order: the database refuses: file is not a database" in result.output


def test_help_never_shows_what_the_variable_holds() -> None:
    """A default that comes from the environment would show the password."""
    for words in (["serve", "--help"], ["database", "current", "--help"]):
        result = CliRunner().invoke(order_app, words, env={"LASTUNIT_ORDER_DATABASE": DEAD})

        assert result.exit_code == 0
        assert SECRET not in result.output
