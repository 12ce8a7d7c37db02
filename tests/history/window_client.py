"""A process of eight recorded clients that fight over one small sale after the other.

Owns what is asked for in a window. Must not judge. Next: `windows.py`, which hands the recorded
calls to a linearizability checker.

Run as `python -m tests.history.window_client SPEC`, SPEC a JSON object as `WindowSpec` lists. Each
window is a sale of its own that starts from a known state, so it can be checked by itself; its
clients begin together.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .client import Client, Progress, Spec
from .worlds import signed

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENTS: Final = 8
UNITS: Final = 9
UNITS_PER_PERSON: Final = 3
UNPAID_PER_PERSON: Final = 2
SKU: Final = "unit"
POOL: Final = "main"
# Few persons and few ids in play, so that clients meet at every turn.
_PERSONS: Final = 6
_ATTEMPTS: Final = 3


@dataclass(frozen=True)
class WindowSpec:
    """What one process does: windows `first` to `first + windows - 1`, `operations` a client.

    The other fields are those of `client.Spec`; `process` numbers the process, from 0.
    """

    addresses: str
    folder: str
    seed: str
    process: int
    first: int
    windows: int
    operations: int


def window_name(number: int) -> str:
    """Returns a window's name, which is its sale's id."""
    return f"w{number}"


class WindowPlan:
    """The calls of one client in one window; ids are small numbers that all eight share."""

    def __init__(self, seed: str, *, window: int, client: int, operations: int) -> None:
        self._random = random.Random(f"{seed}.{window}.{client}")
        self._window = window_name(window)
        self._client = client
        self._operations = operations
        self._asked = 0
        self._sent: list[tuple[str, Any]] = []

    def calls(self) -> list[tuple[str, Any]]:
        """Returns all calls of the window: method and request."""
        makers: tuple[tuple[int, Callable[[], tuple[str, Any]]], ...] = (
            (26, self._reserve),
            (13, self._begin),
            (16, self._settle),
            (8, self._confirm),
            (11, self._release),
            (10, self._show),
            (11, self._availability),
            (5, self._again),
        )
        weights = [weight for weight, _ in makers]
        for _ in range(self._operations):
            [(_, maker)] = self._random.choices(makers, weights=weights)
            self._sent.append(maker())
        return self._sent

    def _reservation(self) -> str:
        # Each client makes its own ids, and all speak of everybody's latest ones.
        client = int(self._random.random() * CLIENTS)
        made = max(1, self._asked // 4 - int(self._random.random() * 3))
        return f"{self._window}.{client}.{made}"

    def _request(self) -> str:
        self._asked += 1
        return f"{self._window}.q{self._client}.{self._asked}"

    def _reserve(self) -> tuple[str, Any]:
        self._asked += 1
        person = int(self._random.random() * _PERSONS)
        units = 1 if self._random.random() < 0.8 else 2
        return "Reserve", stock.ReserveRequest(
            reservation_id=f"{self._window}.{self._client}.{1 + self._asked // 4}",
            sale_id=self._window,
            person_id=f"p{person}",
            lines=[reservation.Line(sku=SKU, units=units)],
        )

    def _attempt(self, reservation_id: str) -> str:
        return f"{reservation_id}:{1 + int(self._random.random() * _ATTEMPTS)}"

    def _begin(self) -> tuple[str, Any]:
        name = self._reservation()
        request = stock.BeginPaymentRequest(reservation_id=name, attempt_id=self._attempt(name))
        return "BeginPayment", request

    def _settle(self) -> tuple[str, Any]:
        name = self._reservation()
        result = reservation.PAYMENT_RESULT_SUCCEEDED
        if self._random.random() < 0.5:
            result = reservation.PAYMENT_RESULT_FAILED
        return "SettlePayment", stock.SettlePaymentRequest(
            request_id=self._request(),
            reservation_id=name,
            attempt_id=self._attempt(name),
            payment_result=result,
        )

    def _confirm(self) -> tuple[str, Any]:
        return "Confirm", stock.ConfirmRequest(
            request_id=self._request(), reservation_id=self._reservation()
        )

    def _release(self) -> tuple[str, Any]:
        return "Release", stock.ReleaseRequest(
            request_id=self._request(),
            reservation_id=self._reservation(),
            release_reason=reservation.RELEASE_REASON_CLIENT,
        )

    def _show(self) -> tuple[str, Any]:
        return "GetReservation", stock.GetReservationRequest(reservation_id=self._reservation())

    def _availability(self) -> tuple[str, Any]:
        request = stock.GetAvailabilityRequest(sale_id=self._window, skus=[SKU])
        return "GetAvailability", request

    def _again(self) -> tuple[str, Any]:
        return self._random.choice(self._sent) if self._sent else self._reserve()


def set_up(number: int) -> list[tuple[str, Any]]:
    """Returns the calls that make a window's sale."""
    sale = window_name(number)
    policy = sale_pb2.SalePolicy(
        units_per_person_per_sku_max=UNITS_PER_PERSON,
        unpaid_reservations_per_person_max=UNPAID_PER_PERSON,
    )
    pool = {"sale_id": sale, "sku": SKU, "pool": POOL}
    return [
        ("PutSale", admin.PutSaleRequest(**signed(f"{sale}.1"), sale_id=sale, policy=policy)),
        ("PutPool", admin.PutPoolRequest(**signed(f"{sale}.2"), **pool, is_offered=True)),
        ("SupplyStock", admin.SupplyStockRequest(**signed(f"{sale}.3"), **pool, units=UNITS)),
    ]


def _run(spec: WindowSpec, index: int, start: threading.Barrier, progress: Progress) -> None:
    number = spec.process * CLIENTS + index
    client = Client(_client_spec(spec), number, door="data", progress=progress)
    try:
        for window in range(spec.first, spec.first + spec.windows):
            if index == 0:
                for method, request in set_up(window):
                    client.call(
                        method, request.SerializeToString(), operations=1, may_give_up=False
                    )
            plan = WindowPlan(spec.seed, window=window, client=index, operations=spec.operations)
            calls = plan.calls()
            start.wait()
            for method, request in calls:
                client.call(method, request.SerializeToString(), operations=1)
            start.wait()
    except BaseException:
        # Whoever waits for this client must not wait for ever.
        start.abort()
        raise
    finally:
        client.close()


def _client_spec(spec: WindowSpec) -> Spec:
    return Spec(
        addresses=spec.addresses,
        folder=spec.folder,
        seed=spec.seed,
        round_number=spec.first,
        clients=[],
        unary_clients=[],
        has_operator=False,
        client_count=CLIENTS,
        operations=0,
        unary_operations=0,
        batch_max=1,
    )


def main() -> None:
    """Runs all windows of this process."""
    spec = WindowSpec(**json.loads(sys.argv[1]))
    progress = Progress()
    start = threading.Barrier(CLIENTS)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            _run(spec, index, start, progress)
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    causes = [error for error in failures if not isinstance(error, threading.BrokenBarrierError)]
    if failures:
        raise (causes or failures)[0]


if __name__ == "__main__":
    main()
