"""A process of recorded clients: each sends its plan, one call at a time, whatever breaks.

Owns connections, retries and clock readings. Must not judge a reply. Next: `calls.py` for what is
kept, `load.py` for who starts this.

Run as `python -m tests.history.client SPEC`, SPEC a JSON object as `Spec` lists. Writes one line
with the count of answered operations whenever it grew by a step, and ends when all are answered.
"""

from __future__ import annotations

import json
import queue
import random
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.stock.v1 import stock_service_pb2 as stock

from .calls import EXCHANGE, REFUSED, UNKNOWN, Call, Recorder
from .plan import OperatorPlan, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOCK: Final = "/lastunit.stock.v1.StockService/"
_ADMIN: Final = "/lastunit.stock.v1.StockAdminService/"
_STOCK_METHODS: Final = frozenset(
    method.name for method in stock.DESCRIPTOR.services_by_name["StockService"].methods
)
# With these statuses nothing was decided; after any other the effect is unknown.
_NOT_DECIDED: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
)
# These would be a defect of the server or of this test: sending again would hide it.
_WRONG: Final = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.PERMISSION_DENIED,
    }
)
_CALL_SECONDS: Final = 20.0
_OUTAGE_SECONDS_MAX: Final = 90.0
# A server that is alive but did not answer is called again after this.
_LOOK_SECONDS_MAX: Final = 2.0
# Share of the calls without an answer that nobody sends again.
_GIVEN_UP: Final = 0.1
_PROGRESS_STEP: Final = 500
# Field of Operation -> method, where they are not the same word.
_METHOD_OF: Final = {
    field.name: field.message_type.name.removesuffix("Request")
    for field in stock.Operation.DESCRIPTOR.fields
}


@dataclass(frozen=True)
class Spec:
    """What one process does.

    Attributes:
        addresses: File with the present addresses, replaced at each start of the server.
        folder: Where the recorded calls go.
        seed: Of all choices.
        round_number: Names the sales.
        clients: Numbers of the clients that send batches.
        unary_clients: Numbers of those that send single calls.
        has_operator: Whether the operator is in this process.
        client_count: All clients of the round, whose ids can be guessed.
        operations: How many each batch client sends.
        unary_operations: How many each other client sends.
        batch_max: Operations of the largest batch.
    """

    addresses: str
    folder: str
    seed: str
    round_number: int
    clients: list[int]
    unary_clients: list[int]
    has_operator: bool
    client_count: int
    operations: int
    unary_operations: int
    batch_max: int


class Progress:
    """Counts answered operations over all threads and tells the parent."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._lock = threading.Lock()
        self._is_quiet = is_quiet
        self._count = 0
        self._told = 0

    def add(self, count: int) -> None:
        """Adds answered operations."""
        with self._lock:
            self._count += count
            if self._count - self._told >= _PROGRESS_STEP and not self._is_quiet:
                self._told = self._count
                sys.stdout.write(f"{self._count}\n")
                sys.stdout.flush()


class Connection:
    """The server as one client sees it, found anew after each break."""

    def __init__(self, addresses: Path, door: str) -> None:
        self._addresses = addresses
        self._door = door
        self._known = ""
        self._channels: dict[str, grpc.Channel] = {}
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stream: Any = None
        self.seen = (0, 0)

    def channel(self, door: str) -> grpc.Channel:
        """Returns the open channel, or opens one to wherever the server is now."""
        if door not in self._channels:
            self._known = self._addresses.read_text()
            self._channels[door] = grpc.insecure_channel(json.loads(self._known)[door])
        return self._channels[door]

    def close(self) -> None:
        """Closes what is open."""
        self._outgoing.put(None)
        if self._stream is not None:
            self._stream.cancel()
        for channel in self._channels.values():
            channel.close()
        self._stream = None
        self._channels.clear()

    def find_again(self) -> None:
        """Waits until the server is somewhere else, or for a while if it is not."""
        self.close()
        end = time.monotonic() + _LOOK_SECONDS_MAX
        while self._addresses.read_text() == self._known and time.monotonic() < end:
            time.sleep(0.01)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns who calls and what this client has seen."""
        sequence, epoch = self.seen
        seen = (("lastunit-seen-sequence", str(sequence)), ("lastunit-seen-epoch", str(epoch)))
        return (("lastunit-caller", "history"), *(seen if epoch else ()))

    def note(self, place: Any) -> None:
        """Remembers what a reply has shown."""
        self.seen = max(self.seen, (place.as_of_sequence, place.epoch))

    def unary(self, method: str, request: bytes) -> bytes:
        """Sends one call."""
        is_stock = method in _STOCK_METHODS
        path = (_STOCK if is_stock else _ADMIN) + method
        door = self._door if is_stock else "settlement"
        call: Any = self.channel(door).unary_unary(path)
        reply: bytes = call(request, timeout=_CALL_SECONDS, metadata=self.metadata())
        return reply

    def exchange(self, request: bytes) -> bytes:
        """Sends one batch over the stream and waits for its answer."""
        if self._stream is None:
            outgoing = self._outgoing = queue.SimpleQueue()
            open_stream: Any = self.channel(self._door).stream_stream(_STOCK + EXCHANGE)
            self._stream = open_stream(_requests(outgoing), metadata=self.metadata())
        self._outgoing.put(request)
        reply: bytes = next(self._stream)
        return reply


def _requests(outgoing: queue.SimpleQueue[bytes | None]) -> Iterator[bytes]:
    while (request := outgoing.get()) is not None:
        yield request


class Client:
    """One client: sends, records, and sends again what had no answer."""

    def __init__(self, spec: Spec, number: int, *, door: str, progress: Progress) -> None:
        self.connection = Connection(Path(spec.addresses), door)
        self._recorder = Recorder(Path(spec.folder) / f"{spec.round_number:05}.{number:05}.calls")
        self._random = random.Random(f"{spec.seed}.{spec.round_number}.{number}.patience")
        self._number = number
        self._progress = progress

    def close(self) -> None:
        """Ends the connection and the record."""
        self.connection.close()
        self._recorder.close()

    def call(
        self, method: str, request: bytes, *, operations: int, may_give_up: bool = True
    ) -> bytes:
        """Sends a call until it is answered, with the same ids each time; returns the reply.

        Now and then a call without an answer is given up instead, as a buyer would who walks off:
        only the journal knows then what became of it.

        Raises:
            TimeoutError: The server did not come back.
        """
        end = time.monotonic() + _OUTAGE_SECONDS_MAX
        while time.monotonic() < end:
            return_ns, reply = self._attempt(method, request)
            is_given_up = may_give_up and self._random.random() < _GIVEN_UP
            if return_ns != UNKNOWN or is_given_up:
                self._progress.add(operations)
                return reply
            self.connection.find_again()
        raise TimeoutError(f"client {self._number}: no server for {_OUTAGE_SECONDS_MAX:g} s")

    def _attempt(self, method: str, request: bytes) -> tuple[int, bytes]:
        # A server that is about to start has no channel yet; connecting is not part of the call.
        connection = self.connection
        send = connection.exchange if method == EXCHANGE else None
        reply = b""
        call_ns = time.monotonic_ns()
        try:
            reply = send(request) if send else connection.unary(method, request)
            return_ns = time.monotonic_ns()
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            if code in _WRONG:
                raise
            return_ns = REFUSED if code in _NOT_DECIDED else UNKNOWN
        except StopIteration:
            return_ns = UNKNOWN
        self._recorder.add(Call(method, self._number, call_ns, return_ns, request, reply))
        return return_ns, reply


def run_batches(client: Client, plan: Plan, spec: Spec, sizes: list[int]) -> None:
    """Sends batches of changing size."""
    left, number = spec.operations, 0
    while left > 0:
        number += 1
        count = min(left, sizes[number % len(sizes)])
        message = stock.ExchangeRequest(exchange_id=number, operations=plan.batch(count))
        reply = client.call(EXCHANGE, message.SerializeToString(), operations=count)
        answer = stock.ExchangeResponse.FromString(reply)
        _note_last(client, answer)
        left -= count


def _note_last(client: Client, answer: stock.ExchangeResponse) -> None:
    for reply in reversed(answer.replies):
        kind = reply.WhichOneof("response")
        if kind != "fault":
            client.connection.note(getattr(reply, str(kind)).place)
            return


def run_single(client: Client, plan: Plan, spec: Spec) -> None:
    """Sends single calls."""
    for _ in range(spec.unary_operations):
        [operation] = plan.batch(1)
        field = str(operation.WhichOneof("request"))
        request = getattr(operation, field).SerializeToString()
        reply = client.call(_METHOD_OF[field], request, operations=1)
        answer = getattr(stock, f"{_METHOD_OF[field]}Response").FromString(reply)
        client.connection.note(answer.place)


def run_operator(client: Client, plan: OperatorPlan, is_over: threading.Event) -> None:
    """Sends an operator's calls, now and then, until the others are done."""
    while not is_over.wait(0.005):
        method, request = plan.next()
        client.call(method, request.SerializeToString(), operations=1)


def main() -> None:
    """Runs all clients of this process."""
    spec = Spec(**json.loads(sys.argv[1]))
    progress = Progress()
    failures: list[BaseException] = []
    is_over = threading.Event()

    def start(number: int, door: str, body: Any, plan: Any, *rest: Any) -> threading.Thread:
        def work() -> None:
            client = Client(spec, number, door=door, progress=progress)
            try:
                body(client, plan, *rest)
            except BaseException as error:  # noqa: BLE001 - reported by the main thread
                failures.append(error)
            finally:
                client.close()

        thread = threading.Thread(target=work, name=f"client-{number}")
        thread.start()
        return thread

    def plan_of(number: int) -> Plan:
        return Plan(
            f"{spec.seed}.{spec.round_number}.{number}",
            round_number=spec.round_number,
            client=number,
            client_count=spec.client_count,
        )

    largest = spec.batch_max
    sizes = [largest, max(1, largest // 8), largest, 1, max(1, largest // 2)]
    threads = [
        start(number, "data", run_batches, plan_of(number), spec, sizes) for number in spec.clients
    ] + [start(number, "data", run_single, plan_of(number), spec) for number in spec.unary_clients]
    operator = None
    if spec.has_operator:
        plan = OperatorPlan(
            f"{spec.seed}.{spec.round_number}.operator",
            round_number=spec.round_number,
            client_count=spec.client_count,
        )
        operator = start(spec.client_count, "data", run_operator, plan, is_over)
    for thread in threads:
        thread.join()
    is_over.set()
    if operator is not None:
        operator.join()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    main()
