"""One data directory over many lives of the server, with the clients that outlive them all.

Owns the order of one life: checks at rest, opening, checks, load, death. Must not: choose how a
life ends (`places.py`) or sum up (`rounds.py`).
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.crash import checks
from tests.crash.calls import KINDS, Call
from tests.crash.child import DEATHS, Child, start
from tests.crash.client import SALE, SHORT_SALE, SKUS, Client, Connection

from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.places import Ending

CLIENT_COUNT = 6
# So few that a part of the reservations is refused, and late payments find none.
POOL_UNITS = {"front": 400, "back": 150}
BUFFER_UNITS = 40
SECONDS = 20.0
# Small segments and frequent snapshots, so that both are met in every life.
SMALL = {
    "journal.segment_bytes": 262_144,
    "journal.snapshot_events": 1000,
    "journal.kept_back_bytes": 262_144,
    "journal.history_bytes_max": 2_097_152,
}


class Station:
    """One directory, its clients, and what was seen of its journal."""

    def __init__(
        self, directory: Path, *, seed: int, is_small: bool, client_count: int = CLIENT_COUNT
    ) -> None:
        self.directory = directory
        self.flags: dict[str, Any] = dict(SMALL) if is_small else {}
        self.clients = {
            name: Client(name, seed) for name in (f"c{index}" for index in range(client_count))
        }
        self.view = checks.JournalView()
        self.problems: list[tuple[str, str]] = []
        self.kills: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.is_set_up = False
        self._checked = 0

    def live(self, ending: Ending) -> None:
        """Runs one life of the server, from opening to death."""
        for failpoint in ending.openings:
            self.open_and_die(failpoint)
        child = self._open(ending.failpoint)
        if not child.ready:
            # The place was reached before anybody could be served.
            self.died(child, ending.place)
            self.check_at_rest()
            return
        connection = Connection(child.ready)
        try:
            if self._check(child, connection):
                self._load(child, connection, ending)
        finally:
            self._end(child, ending)
            connection.close()
        self.check_at_rest()

    def open_and_die(self, failpoint: str) -> None:
        """Starts a server that ends itself in its opening."""
        child = self._open(failpoint)
        if child.ready:
            # There was nothing to do at that place: any other moment will do.
            child.kill()
            failpoint = "random"
        self.died(child, f"in_opening {failpoint.partition(':')[0]}")
        self.check_at_rest()

    def _open(self, failpoint: str) -> Child:
        child = start(
            self.directory, self.flags, {"LASTUNIT_FAILPOINT": failpoint} if failpoint else {}
        )
        if not child.wait_ready():
            return child
        if child.ready["epoch"] <= self.view.epoch:
            self.problem("wrong", f"epoch {child.ready['epoch']} after {self.view.epoch}")
        if child.ready["sequence"] < self.view.sequence:
            self.problem("undone", f"opened at {child.ready['sequence']}, was {self.view.sequence}")
        return child

    def died(self, child: Child, place: str) -> None:
        """Counts a death, and looks at how it was."""
        status = child.wait()
        if status not in DEATHS:
            log = child.log.read_text()[-2000:]
            self.problem("wrong", f"the server left with {status} at {place}: {log}")
        self.kills[place] += 1

    # While it lives.

    def _check(self, child: Child, connection: Connection) -> bool:
        """Holds the ledger against the clients; returns whether the server outlived that."""
        try:
            if not self.is_set_up:
                self._set_up(connection)
            clients = self.clients.values()
            for check in (checks.resolve, checks.repeat_some):
                if not all(check(client, connection) for client in clients):
                    return self._has_outlived(child)
            if not all(checks.touch(one, connection, one.open) for one in clients):
                return self._has_outlived(child)
            self.problems += checks.compare(connection, clients)
        except grpc.RpcError as error:
            return self._has_outlived(child, error)
        return True

    def _has_outlived(self, child: Child, error: object = "see the clients' problems") -> bool:
        # A place was reached while it was looked at; the next life looks again.
        time.sleep(0.1)
        if child.is_alive():
            self.problem("wrong", f"the server lives and failed to answer: {error}")
        return False

    def _set_up(self, connection: Connection) -> None:
        hour = Duration(seconds=3600)
        policy = {
            "reservation_ttl": hour,
            "settle_by": hour,
            "max_life": Duration(seconds=9 * 3600),
        }
        brief = {
            "reservation_ttl": Duration(nanos=300_000_000),
            "settle_by": Duration(nanos=200_000_000),
            "is_unverified_release_allowed": True,
        }
        for sale_id, fields in ((SALE, policy), (SHORT_SALE, brief)):
            _must(connection, "PutSale", f"{sale_id}", sale_id=sale_id, policy=_policy(fields))
            for sku in SKUS:
                for position, (pool, units) in enumerate(POOL_UNITS.items()):
                    place = {"sale_id": sale_id, "sku": sku, "pool": pool}
                    mark = f"{sale_id}-{sku}-{pool}"
                    _must(
                        connection,
                        "PutPool",
                        f"pool-{mark}",
                        **place,
                        position=position,
                        is_offered=True,
                    )
                    _must(connection, "SupplyStock", f"units-{mark}", **place, units=units)
                    more = {"units": BUFFER_UNITS, "is_buffer": True}
                    _must(connection, "SupplyStock", f"buffer-{mark}", **place, **more)
        self.is_set_up = True

    def _load(self, child: Child, connection: Connection, ending: Ending) -> None:
        """Lets all clients work until the server is gone or its time has come."""
        stop = threading.Event()
        with ThreadPoolExecutor(len(self.clients)) as pool:
            runs = [pool.submit(one.run, connection, stop) for one in self.clients.values()]
            end = time.monotonic() + ending.load_seconds
            while time.monotonic() < end and child.is_alive():
                time.sleep(0.002)
            if ending.grace_seconds is not None:
                child.ask_to_stop()
                wait(child, ending)
            self._end(child, ending)
            stop.set()
            for run in runs:
                run.result(SECONDS)

    def _end(self, child: Child, ending: Ending) -> None:
        if child.process.stdout is None or child.process.stdout.closed:
            return
        place = ending.place
        if child.is_alive():
            child.process.kill()
            place = "random" if ending.failpoint else place
        # A stop that was quicker than the kill after it is a stop.
        if ending.grace_seconds is not None and child.wait() == 0:
            self.kills["clean_stop"] += 1
            return
        self.died(child, place)

    # At rest.

    def check_at_rest(self) -> None:
        """Reads the journal of a server that is gone, and audits the ledger that it tells of."""
        if not any(self.directory.glob("segment-*.journal")) and not self.view.sequence:
            return
        self.view.read(self.directory, self.clients)
        self.view.check_acknowledged(self.clients.values(), after=self._checked)
        self._checked = self.view.sequence
        self.problems += checks.check_at_rest(self.directory)
        self._gather()

    def finish(self) -> None:
        """One more life without a kill: everything is looked at, then a clean stop."""
        child = self._open("")
        connection = Connection(child.ready)
        if self._check(child, connection):
            clients = self.clients.values()
            for client in clients:
                checks.touch(client, connection, client.claims.values())
            self.problems += checks.compare(connection, clients)
            self.problems += checks.check_owners(connection, clients)
            self.problems += checks.audit(connection)
        connection.close()
        child.ask_to_stop()
        if child.wait() != 0:
            self.problem("wrong", f"a clean stop left with {child.process.returncode}")
        self._checked = 0
        self.check_at_rest()

    def problem(self, kind: str, text: str) -> None:
        """Keeps something that must not be."""
        self.problems.append((kind, text))

    def _gather(self) -> None:
        self.problems += self.view.problems
        self.view.problems = []
        for client in self.clients.values():
            self.problems += client.problems
            client.problems = []


def wait(child: Child, ending: Ending) -> None:
    """Leaves a server that was asked to stop its time."""
    end = time.monotonic() + (ending.grace_seconds or 0)
    while time.monotonic() < end and (child.is_alive() or not ending.waits_for_end):
        time.sleep(0.002)


def _policy(fields: dict[str, Any]) -> sale_pb2.SalePolicy:
    return sale_pb2.SalePolicy(**fields)


def _must(connection: Connection, kind: str, mark: str, **fields: Any) -> None:
    """Sends a call of the set-up; its id is the same in every life, so it may be repeated."""
    common = {"request_id": f"setup-{mark}", "actor": "rounds", "reason": "set-up"}
    request = getattr(admin, f"{kind}Request")(**common, **fields)
    response = Call(KINDS[kind], request).send(connection.settlement, SECONDS)
    assert response.result.outcome == 1, response
