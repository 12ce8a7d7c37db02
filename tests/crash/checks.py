"""After a death: everything that clients were told is held against what the ledger shows.

Owns the four counts of a round (lost, doubled, leaked, undone) and what is wrong beside. Must not:
send a changing call, but for those whose answer is unknown (`resolve`).

* lost: an acknowledged call whose event is not at the place it was acknowledged with;
* doubled: an id with a second effect, or another answer than the first;
* leaked: units or events that no client owns, or counters that clients can't explain;
* undone: the journal ends before something that a reply, read or refusal, has shown.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.crash.calls import KINDS, Call, event_key
from tests.crash.claims import PLACE_OF_STATE
from tests.crash.client import SALE, SHORT_SALE, SKUS, Client, Connection

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.journal_service_pb2 import ReadEventsResponse
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub
from lastunit_server import _native

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.crash.claims import Claim

PAGE = 4096
SECONDS = 20.0
SETUP_KEYS = "request setup-"
# What timers do; only in the sale whose times are short.
TIMED = {"released", "became_overdue", "ask_provider_requested"}
# What the node does by itself.
OWN = {"outage_credited", "history_forgotten"}
# How many acknowledged calls of a client are repeated after a death, and how often a sale with
# short times is read again until no timer ran meanwhile.
RETRIES = 50


@dataclass
class JournalView:
    """The journal as it is read from outside, event by event, over all lives of one directory."""

    sequence: int = 0
    epoch: int = 0
    opening_count: int = 0
    keys: dict[int, str] = field(default_factory=dict)
    effects: set[tuple[str, str, str]] = field(default_factory=set)
    timer_count: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def read(self, directory: Path, clients: dict[str, Client]) -> None:
        """Reads what is new, with no server running; nothing is written."""
        while True:
            before = self.sequence
            try:
                body, last = _native.read_directory_events(str(directory), before, PAGE)
            except ValueError as error:
                self._problem("undone", f"{before} events were there before: {error}")
                return
            for event in ReadEventsResponse.FromString(body).events:
                self.note(event, clients)
            # One page is not the end: a long life writes more events than that.
            if last <= before:
                return

    def note(self, event: Any, clients: dict[str, Client]) -> None:
        """Notes one event: gap-free, owned, and the first of its kind for its id."""
        if event.sequence != self.sequence + 1:
            self._problem("wrong", f"event {event.sequence} follows {self.sequence}")
        self.sequence = event.sequence
        body = str(event.WhichOneof("body"))
        key = event_key(event)
        if body == "node_opened":
            if event.node_opened.epoch <= self.epoch:
                self._problem("wrong", f"epoch {event.node_opened.epoch} after {self.epoch}")
            self.epoch = event.node_opened.epoch
            self.opening_count += 1
        elif key:
            self._note_effect(event, key, body, clients)
        elif body in TIMED and event.sale_id == SHORT_SALE:
            self.timer_count += 1
        elif body not in OWN:
            self._problem("wrong", f"nobody asked for {event}")

    def _note_effect(self, event: Any, key: str, body: str, clients: dict[str, Client]) -> None:
        self.keys[event.sequence] = key
        attempt = getattr(getattr(event, body), "attempt_id", "")
        effect = (key, body, attempt)
        if effect in self.effects:
            self._problem("doubled", f"a second {body} of {key} at {event.sequence}")
        self.effects.add(effect)
        is_known = any(key in client.calls for client in clients.values())
        if not is_known and not key.startswith(SETUP_KEYS):
            self._problem("leaked", f"nobody sent {key}, which left {body} at {event.sequence}")

    def check_acknowledged(self, clients: Iterable[Client], *, after: int) -> None:
        """Checks that each call acknowledged with an event after a sequence has it there."""
        for client in clients:
            for key, call in client.calls.items():
                if call.sequence > after and self.keys.get(call.sequence) != key:
                    found = self.keys.get(call.sequence, "nothing")
                    self._problem(
                        "lost", f"{call.kind.name} {key} was told {call.sequence}: {found}"
                    )
            if client.revealed > self.sequence:
                shown = f"{client.name} was shown {client.revealed}"
                self._problem("undone", f"{shown}, the journal ends at {self.sequence}")

    def _problem(self, kind: str, text: str) -> None:
        self.problems.append((kind, text))


def check_at_rest(directory: Path) -> list[tuple[str, str]]:
    """Audits a directory without a server, as `lastunit-server audit` does."""
    facts = json.loads(_native.audit_directory(str(directory)))
    if facts["holds"]:
        return []
    return [("wrong", f"audit at rest: {facts['findings']}")]


def resolve(client: Client, connection: Connection) -> bool:
    """Sends every call again whose answer is unknown, with its id; returns whether all came."""
    client.unknown_count += len(client.unknown)
    # Some were never sent: the plan was made when the server was gone.
    return not client.unknown or client.send(connection, list(client.unknown))


def repeat_some(client: Client, connection: Connection) -> bool:
    """Sends acknowledged calls again, the last ones and some of all: the first answer must come."""
    calls = client.acknowledged
    chosen = calls[-RETRIES:] + client.random.sample(calls, min(RETRIES, len(calls)))
    return not chosen or client.send(connection, chosen)


def touch(client: Client, connection: Connection, claims: Iterable[Claim]) -> bool:
    """Reads some of the client's reservations: each must be as the client was told."""
    reads = [_read(claim.reservation_id) for claim in claims if claim.state]
    chunks = [reads[index : index + 1000] for index in range(0, len(reads), 1000)]
    return all(client.send(connection, chunk) for chunk in chunks)


def _read(reservation_id: str) -> Call:
    request = stock.GetReservationRequest(reservation_id=reservation_id)
    return Call(KINDS["GetReservation"], request)


def counters(connection: Connection, sale_id: str) -> dict[str, Any]:
    """Returns the counters of each sku of a sale, with the pools' own."""
    request = stock.GetAvailabilityRequest(sale_id=sale_id)
    stub: Any = StockServiceStub(connection.data)
    response = stub.GetAvailability(request, timeout=SECONDS)
    return {shown.sku: shown for shown in response.availabilities}


def compare(connection: Connection, clients: Iterable[Client]) -> list[tuple[str, str]]:
    """Compares the sum of what clients own with the ledger's counters, place by place."""
    clients = list(clients)
    problems = [problem for client in clients for problem in _compare_stall(connection, client)]
    problems += _compare_sale(counters(connection, SALE), clients, SALE)
    for _ in range(RETRIES):
        # Timers move this one while it is read.
        before = str(counters(connection, SHORT_SALE))
        for client in clients:
            touch(client, connection, client.moving())
        after = counters(connection, SHORT_SALE)
        if before == str(after):
            return problems + _compare_sale(after, clients, SHORT_SALE)
    return [*problems, ("wrong", f"{SHORT_SALE} never came to rest")]


def _compare_sale(
    shown: dict[str, Any], clients: list[Client], sale_id: str
) -> list[tuple[str, str]]:
    owned: Counter[str] = Counter()
    for client in clients:
        for claim in client.claims.values():
            if claim.sale_id == sale_id:
                owned.update(claim.counted())
    problems = []
    for sku in SKUS:
        if sku not in shown:
            problems.append(("lost", f"{sale_id} {sku} is not there"))
            continue
        places = shown[sku].counters
        used = 0
        for place in [*PLACE_OF_STATE.values(), "quarantine", "written_off"]:
            found, expected = getattr(places, place), owned[f"{sku} {place}"]
            used += found
            if found != expected:
                text = f"{sale_id} {sku}: {found} {place}, clients own {expected}"
                problems.append(("leaked", text))
        if places.supplied - used != places.available + places.buffer:
            problems.append(("leaked", f"{sale_id} {sku}: units made or gone: {places}"))
    return problems


def _compare_stall(connection: Connection, client: Client) -> list[tuple[str, str]]:
    if not client.stall.counters:
        return []
    shown = counters(connection, client.stall.sale_id).get("own")
    found: Counter[str] = Counter()
    for pool in shown.pools if shown else ():
        for counter, units in pool.counters.ListFields():
            found[f"{pool.pool} {counter.name}"] = units
    expected = +client.stall.counters
    if found == expected:
        return []
    return [("leaked", f"{client.stall.sale_id}: {dict(found)}, expected {dict(expected)}")]


def check_owners(connection: Connection, clients: Iterable[Client]) -> list[tuple[str, str]]:
    """Lists every reservation of the ledger: each has an owner, and none of an owner is missing."""
    stub: Any = StockServiceStub(connection.data)
    listed: set[str] = set()
    for sale_id in (SALE, SHORT_SALE):
        token = ""
        while True:
            request = stock.ListReservationsRequest(
                sale_id=sale_id, page_size=1000, page_token=token
            )
            page = stub.ListReservations(request, timeout=SECONDS)
            listed |= {row.reservation_id for row in page.reservations}
            token = page.next_page_token
            if not token:
                break
    owned = {
        one.reservation_id for client in clients for one in client.claims.values() if one.state
    }
    problems = [("leaked", f"nobody owns {one}") for one in sorted(listed - owned)]
    return problems + [("lost", f"{one} is not there") for one in sorted(owned - listed)]


def audit(connection: Connection) -> list[tuple[str, str]]:
    """Audits the live server."""
    stub: Any = StockAdminServiceStub(connection.settlement)
    response = stub.Audit(admin.AuditRequest(), timeout=SECONDS)
    return [] if response.holds else [("wrong", f"audit: {response.findings}")]
