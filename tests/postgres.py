"""A real PostgreSQL server for tests, started as a child and gone with them.

Owns: finding its programs, a cluster in a folder of its own, a clean database for each test.
Durability is as in production: fsync and full_page_writes are on.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from lastunit.account import _tables as account_tables
from lastunit.order.schema import ORDER_METADATA
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.service.database import Database, parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import sqlalchemy as sa

METADATAS: Mapping[str, sa.MetaData] = {
    "account": account_tables.metadata,
    "inbox": INBOX_METADATA,
    "order": ORDER_METADATA,
    "payment": PAYMENT_METADATA,
}

# Started by root it would refuse: this user runs it, whom Debian's package makes.
USERS = ("postgres", "nobody")
OWNER = "lastunit"
PASSWORD = "no-secret"
START_SECONDS = 60.0

SETTINGS = f"""
listen_addresses = '127.0.0.1'
max_connections = 120
shared_buffers = 64MB
max_wal_size = 1GB
password_encryption = 'scram-sha-256'
deadlock_timeout = 200ms
log_min_messages = warning
lc_messages = 'C'
cluster_name = '{OWNER}'
"""

# Local connections are trusted; those over TCP have to know the password, as a service does.
ACCESS = """
local all all trust
host all all 127.0.0.1/32 scram-sha-256
"""

# Faster than TRUNCATE for a few rows: no file is made anew.
CLEAN = """
DO $$
DECLARE found record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR found IN SELECT schemaname, tablename FROM pg_tables
        WHERE schemaname LIKE 'lastunit%' AND tablename <> 'alembic_version'
    LOOP
        EXECUTE format('DELETE FROM %I.%I', found.schemaname, found.tablename);
    END LOOP;
    FOR found IN SELECT schemaname, sequencename FROM pg_sequences
        WHERE schemaname LIKE 'lastunit%'
    LOOP
        EXECUTE format('ALTER SEQUENCE %I.%I RESTART', found.schemaname, found.sequencename);
    END LOOP;
END $$
"""


class AbsentError(Exception):
    """There is no PostgreSQL on this machine."""


def programs() -> Path:
    """Returns the folder of `initdb` and `postgres`; PGBIN names another one.

    Raises:
        AbsentError: There is none.
    """
    named = os.environ.get("PGBIN")
    found = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("initdb")
    if on_path:
        found.insert(0, Path(on_path).resolve().parent)
    for folder in reversed(found):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AbsentError(
        "no PostgreSQL server: `apt-get install postgresql`, or set PGBIN to its folder"
    )


def _user() -> pwd.struct_passwd | None:
    """Returns as whom it is started; None: as who runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in USERS if name in known)


def _as(user: pwd.struct_passwd | None, *words: str) -> list[str]:
    """Returns a command that runs as somebody.

    Python itself would have to fork for that, which gRPC's threads in this process do not bear.
    """
    if user is None:
        return list(words)
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ["setpriv", *ids, "--", *words]


class PostgresServer:
    """A running server.

    Attributes:
        port: Where it listens on 127.0.0.1; its Unix socket is in `folder`.
        folder: Everything of it.
    """

    def __init__(self) -> None:
        self._programs = programs()
        self._user = _user()
        # Not below pytest's folders, which its user may not enter.
        self.folder = Path(tempfile.mkdtemp(prefix="lastunit-pg-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._free: list[str] = []
        self._count = 0
        self.port = 0
        try:
            self._initialise()
            self._start_somewhere()
            self._make_template()
        except BaseException:
            self.close()
            raise

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            _as(self._user, *words), capture_output=True, text=True, check=False, cwd=self.folder
        )
        assert done.returncode == 0, f"{words[0]} failed: {done.stderr}{done.stdout}"

    def _initialise(self) -> None:
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        words = (
            "-D",
            str(self._data),
            "-U",
            OWNER,
            "-A",
            "trust",
            "-N",
            "--no-locale",
            "-E",
            "UTF8",
        )
        self._run(str(self._programs / "initdb"), *words)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS + f"unix_socket_directories = '{self.folder}'\n")
        (self._data / "pg_hba.conf").write_text(ACCESS)

    def _start_somewhere(self) -> None:
        """Starts it on a free port, which somebody may be quicker to take."""
        for is_last in (False, False, True):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = int(free.getsockname()[1])
            try:
                self.start()
            except AssertionError:
                self.stop()
                if is_last:
                    raise
            else:
                return

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        program = str(self._programs / "postgres")
        words = _as(self._user, program, "-D", str(self._data), "-p", str(self.port))
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, cwd=self.folder)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(psycopg.OperationalError), self.connect() as connection:
                connection.execute(f"ALTER ROLE {OWNER} PASSWORD '{PASSWORD}'")
                return
            gone = self._process.poll() is not None
            assert not gone, (self.folder / "log").read_text(errors="replace")
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stops it: SIGINT rolls back what is open, SIGQUIT is a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """Stops it and removes what it left."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Connects as its superuser; each statement commits by itself."""
        return psycopg.connect(
            host=str(self.folder), port=self.port, user=OWNER, dbname=database, autocommit=True
        )

    def url(self, database: str, *, is_local: bool = True) -> str:
        """Returns the URL of a database, by its Unix socket or by TCP with a password."""
        if is_local:
            return f"postgresql://{OWNER}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{OWNER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Lends the name of a database with every service's tables and no row in them."""
        name = self._free.pop() if self._free else self._new()
        yield name
        try:
            with self.connect(name) as connection:
                connection.execute("SET lock_timeout = '5s'")
                connection.execute(CLEAN)
        except psycopg.Error:
            # Somebody left a transaction open; the next test gets another one.
            with self.connect() as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        else:
            self._free.append(name)

    @contextlib.contextmanager
    def empty_database(self) -> Iterator[str]:
        """Lends the name of a database without anything in it."""
        name = self._new("template0")
        yield name
        with self.connect() as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def _new(self, template: str = "lastunit_template") -> str:
        self._count += 1
        name = f"test_{self._count}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def _make_template(self) -> None:
        with self.connect() as connection:
            connection.execute("CREATE DATABASE lastunit_template")
        url = parse_url(self.url("lastunit_template"))
        for metadata in METADATAS.values():
            Database(url, metadata, is_threaded=False).close()
