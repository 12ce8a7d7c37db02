"""A server that is killed again and again, and the processes of recorded clients around it.

Owns the server's life, the rounds and what is read back after each. Must not judge. Next:
`client.py` for what the processes do, `order.py` and `journal.py` for the judgement.

A round makes its own sales, sends its plan from several processes while the server is killed and
started again, and ends when every operation has an answer. Then nobody has a call in flight, and
the journal is read up to its end.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from tests.conformance.kit import ROOT, Server, start_server

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1.journal_service_pb2_grpc import JournalServiceStub

from .client import Client, Progress, Spec
from .window_client import CLIENTS, WindowSpec
from .worlds import QUIET_SECONDS, release_brake, set_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lastunit.stock.v1 import event_pb2

# Admission has tests of its own; here nothing is shed, so that the ledger decides everything.
_ADMISSION: Final = """
version = 1
[lanes.reservation]
rate_per_second = 1000000
burst = 10000000
calls_in_flight_max = 1000000
[lanes.read]
rate_per_second = 1000000
burst = 10000000
calls_in_flight_max = 1000000
"""
# Where a server may end by itself, and at which visit at most.
_FAILPOINTS: Final = (
    ("after_append_before_write", 400),
    ("after_write_before_sync", 400),
    ("after_sync_before_reply", 400),
    ("during_snapshot", 1),
    ("before_segment_rename", 1),
)
_PAGE: Final = 4096
# Ends of a server: at once from outside, by itself at a named place, and cleanly.
KILL, FAILPOINT, STOP = "kill", "failpoint", "stop"


@dataclass(frozen=True)
class Shape:
    """How large a round is.

    Attributes:
        processes: Client processes, 1 or more.
        batch_clients: Clients a process that send batches, 0 or more.
        unary_clients: Clients a process that send single calls, 0 or more.
        operations: Operations of each batch client.
        unary_operations: Operations of each other client.
        batch_max: Operations of the largest batch, 1 to 4,096.
        ends: How often the server ends in a round.
    """

    processes: int = 2
    batch_clients: int = 6
    unary_clients: int = 2
    operations: int = 1000
    unary_operations: int = 60
    batch_max: int = 64
    ends: int = 2

    def client_count(self) -> int:
        """Returns the count of clients, the operator not among them."""
        return self.processes * (self.batch_clients + self.unary_clients)

    def operation_count(self) -> int:
        """Returns how many operations the clients of a round have answered in the end."""
        of_process = (
            self.batch_clients * self.operations + self.unary_clients * self.unary_operations
        )
        return self.processes * of_process


@dataclass
class Round:
    """What one round left behind."""

    number: int
    calls: list[Path]
    events: list[event_pb2.Event]
    ends: dict[str, int] = field(default_factory=dict)


class Field:
    """A server, where it is, and how often it ended."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.addresses = folder / "addresses.json"
        self.ends = {KILL: 0, FAILPOINT: 0, STOP: 0}
        self.calls = folder / "calls"
        self.calls.mkdir()
        self._admission = folder / "admission.toml"
        self._admission.write_text(_ADMISSION)
        self._random = random.Random(f"field.{seed}")
        self._sequence = 0
        self.seed = seed
        self.server = self.start()

    def start(self, failpoint: str = "") -> Server:
        """Starts the server on the same directory and tells the clients where it is."""
        # Small snapshots and segments, so that recovery meets many of both.
        settings = ("journal.snapshot_events=20000", "journal.segment_bytes=4194304")
        flags = [text for setting in settings for text in ("--set", setting)]
        flags += ["--admission-file", str(self._admission)]
        try:
            environment = {"LASTUNIT_FAILPOINT": failpoint} if failpoint else None
            self.server = start_server(self.folder, *flags, environment=environment)
        except AssertionError:
            # It met its failpoint before it was ready, as a start that is cut off.
            if not failpoint:
                raise
            self.ends[FAILPOINT] += 1
            self.server = start_server(self.folder, *flags)
        ready = self.server.ready
        fresh = self.folder / "addresses.new"
        fresh.write_text(json.dumps({"data": ready["data"], "settlement": ready["settlement"]}))
        fresh.replace(self.addresses)
        return self.server

    def end_and_start(self) -> None:
        """Ends the server in one of three ways and starts it again."""
        chance = self._random.random()
        if chance < 0.75:
            self.ends[KILL] += 1
            self.server.kill()
        else:
            self.ends[STOP] += 1
            self.server.stop()
        self.start(self._some_failpoint())

    def mind(self) -> None:
        """Starts the server again if it ended by itself."""
        if self.server.process.poll() is not None:
            self.ends[FAILPOINT] += 1
            self.start()

    def _some_failpoint(self) -> str:
        if self._random.random() > 0.3:
            return ""
        name, visits = self._random.choice(_FAILPOINTS)
        return f"{name}:{1 + int(self._random.random() * visits)}"

    def thresholds(self, count: int, ends: int) -> list[int]:
        """Returns after how many of `count` answered operations the server ends, in order."""
        return sorted(int(count * (0.05 + 0.9 * self._random.random())) for _ in range(ends))

    def read_events(self) -> list[event_pb2.Event]:
        """Reads the journal from where the last round's reading ended."""
        self.mind()
        found: list[event_pb2.Event] = []
        with grpc.insecure_channel(self.server.ready["data"]) as channel:
            request = journal.ReadEventsRequest(after_sequence=self._sequence, page_size=_PAGE)
            for page in JournalServiceStub(channel).ReadEvents(request, timeout=600):
                found.extend(page.events)
        if found:
            self._sequence = found[-1].sequence
        return found

    def stop(self) -> None:
        """Stops the server."""
        if self.server.process.poll() is None:
            self.server.kill()


class _Worker:
    """One client process and how far it is."""

    def __init__(self, module: str, spec: Spec | WindowSpec, *, index: int) -> None:
        self.answered = 0
        self._log = Path(spec.folder) / f"clients-{index}.log"
        with self._log.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"tests.history.{module}", json.dumps(asdict(spec))],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answered = int(line)

    def end(self) -> None:
        """Waits for the process.

        Raises:
            RuntimeError: It failed.
        """
        status = self.process.wait()
        self._thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if status != 0:
            raise RuntimeError(f"clients ended with {status}: {self._log.read_text()[-2000:]}")


def run_round(
    field_: Field,
    shape: Shape,
    number: int,
    *,
    when_set_up: Callable[[], object] = lambda: None,
    at_each_look: Callable[[int], object] = lambda _look: None,
    is_settled: bool = False,
) -> Round:
    """Runs one round to its fence and reads the journal.

    Args:
        field_: The server.
        shape: How much is sent.
        number: Names the round's sales; each round of a server has its own.
        when_set_up: Called when the sales are made.
        at_each_look: Called every few milliseconds of the load with the count of looks so far.
        is_settled: Whether to wait until no timer of the round is left to fire: then a check may
            forget its sales.
    """
    ends_before = dict(field_.ends)
    _operate(field_, shape, number, set_up(number), client=shape.client_count() + 1)
    when_set_up()
    workers = [
        _Worker("client", spec, index=index)
        for index, spec in enumerate(_specs(field_, shape, number))
    ]
    _attend(field_, workers, field_.thresholds(shape.operation_count(), shape.ends), at_each_look)
    if is_settled:
        _operate(field_, shape, number, release_brake(number), client=shape.client_count() + 2)
        time.sleep(QUIET_SECONDS)
    events = field_.read_events()
    calls = sorted(field_.calls.glob(f"{number:05}.*.calls"))
    ends = {kind: count - ends_before[kind] for kind, count in field_.ends.items()}
    return Round(number, calls, events, ends)


def run_windows(
    field_: Field, *, first: int, windows: int, operations: int, processes: int, ends: int
) -> Round:
    """Runs windows of eight clients, several at a time, and reads the journal.

    Args:
        field_: The server.
        first: Number of the first window.
        windows: How many each process runs, one after the other.
        operations: Of each client in each window.
        processes: How many windows run at a time.
        ends: How often the server ends meanwhile.
    """
    ends_before = dict(field_.ends)
    specs = [
        WindowSpec(
            addresses=str(field_.addresses),
            folder=str(field_.calls),
            seed=str(field_.seed),
            process=index,
            first=first + index * windows,
            windows=windows,
            operations=operations,
        )
        for index in range(processes)
    ]
    workers = [_Worker("window_client", spec, index=spec.process) for spec in specs]
    count = processes * windows * CLIENTS * operations
    _attend(field_, workers, field_.thresholds(count, ends), lambda _look: None)
    events = field_.read_events()
    calls = [path for spec in specs for path in field_.calls.glob(f"{spec.first:05}.*.calls")]
    ended = {kind: count - ends_before[kind] for kind, count in field_.ends.items()}
    return Round(first, sorted(calls), events, ended)


def _attend(
    field_: Field,
    workers: list[_Worker],
    thresholds: list[int],
    at_each_look: Callable[[int], object],
) -> None:
    """Ends the server when so many operations are answered, until the clients are done."""
    looks = 0
    try:
        while any(worker.process.poll() is None for worker in workers):
            field_.mind()
            if thresholds and sum(worker.answered for worker in workers) >= thresholds[0]:
                thresholds.pop(0)
                field_.end_and_start()
            looks += 1
            at_each_look(looks)
            time.sleep(0.005)
    finally:
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.kill()
    for worker in workers:
        worker.end()


def _operate(
    field_: Field, shape: Shape, number: int, calls: Iterable[tuple[str, Any]], *, client: int
) -> None:
    """Sends an operator's calls; they are recorded like all others."""
    spec = next(_specs(field_, shape, number))
    operator = Client(spec, client, door="data", progress=Progress(is_quiet=True))
    with ThreadPoolExecutor(1) as thread:
        for method, request in calls:
            body = request.SerializeToString()
            # A server that was armed in the round before may end under the operator's call.
            answer = thread.submit(operator.call, method, body, operations=1, may_give_up=False)
            while wait([answer], 0.01).not_done:
                field_.mind()
            answer.result()
    operator.close()


def _specs(field_: Field, shape: Shape, number: int) -> Iterator[Spec]:
    of_process = shape.batch_clients + shape.unary_clients
    for index in range(shape.processes):
        first = index * of_process
        yield Spec(
            addresses=str(field_.addresses),
            folder=str(field_.calls),
            seed=str(field_.seed),
            round_number=number,
            clients=list(range(first, first + shape.batch_clients)),
            unary_clients=list(range(first + shape.batch_clients, first + of_process)),
            has_operator=index == 0,
            client_count=shape.client_count(),
            operations=shape.operations,
            unary_operations=shape.unary_operations,
            batch_max=shape.batch_max,
        )
