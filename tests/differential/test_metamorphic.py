"""What must not matter: the size of a batch, the order across skus, a replay of the journal."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2
from lastunit_server import _native

from . import comparing
from .histories import START_MS, Clock, History
from .real import RealLedger

if TYPE_CHECKING:
    from pathlib import Path

    from .histories import Operation

SEED = int(os.environ.get("LASTUNIT_SEED", random.randrange(1, 1_000_000)))


@pytest.mark.parametrize("batch_max", [1, 7, 512])
def test_a_batch_decides_as_its_operations_one_by_one(batch_max: int) -> None:
    """However a history is cut into batches, the replies are those of the model, one by one."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    history = History(SEED, 600).operations()

    assert comparing.run(history, batch_max=batch_max) is None


def without_copies(history: list[Operation]) -> list[Operation]:
    """Leaves out what asks for an id again: its meaning depends on which copy comes first."""
    seen: set[str] = set()
    kept = []
    for operation in history:
        name = getattr(operation, "request_id", "") or getattr(operation, "attempt_id", "")
        name = name or getattr(operation, "reservation_id", "")
        is_read = type(operation).__name__.startswith(("Get", "List", "Explain", "Audit"))
        if is_read or isinstance(operation, Clock) or name not in seen:
            kept.append(operation)
            seen.add(name)
    return kept


def one_sale_each(history: list[Operation]) -> dict[str, list[Operation]]:
    """Sorts operations by the sale that they concern; leaves out what concerns all of them."""
    sale_of: dict[str, str] = {}
    sorted_by_sale: dict[str, list[Operation]] = {}
    for operation in history:
        if isinstance(operation, admin_pb2.PutSaleRequest):
            sorted_by_sale.setdefault(operation.sale_id, [])
        if isinstance(operation, stock_pb2.ReserveRequest):
            sale_of[operation.reservation_id] = operation.sale_id
        sale_id = getattr(operation, "sale_id", "")
        sale_id = sale_id or sale_of.get(getattr(operation, "reservation_id", ""), "")
        if sale_id in sorted_by_sale:
            sorted_by_sale[sale_id].append(operation)
    return sorted_by_sale


def shown(real: RealLedger) -> list[Any]:
    """Returns what there is of each sale, without the places in the journal."""
    pages = []
    audit = real.call(admin_pb2.AuditRequest())
    for sale_id in sorted({pool.sale_id for pool in audit.pools}):
        reply = real.call(stock_pb2.GetAvailabilityRequest(sale_id=sale_id))
        reply.ClearField("place")
        for availability in reply.availabilities:
            availability.ClearField("changed_sequence")
        pages.append(reply)
    return pages


def test_operations_on_other_skus_may_come_in_any_order(tmp_path: Path) -> None:
    """Operations of different sales, mixed in two ways, leave equal counters and levels."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    apart = one_sale_each(without_copies(History(SEED, 900).operations()))
    shuffled = random.Random(SEED)
    found = []
    for number in range(2):
        queues = [list(operations) for operations in apart.values()]
        real = RealLedger(tmp_path / str(number), now_ms=START_MS)
        while any(queues):
            queue = shuffled.choice([queue for queue in queues if queue])
            real.call(queue.pop(0))
        found.append(shown(real))
        real.close()

    assert found[0] == found[1]


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_replay_of_the_journal_is_the_live_state(tmp_path: Path, *, is_clean: bool) -> None:
    """Rebuilt from snapshot and journal, offline and after an opening, all is as it was live."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    real = RealLedger(tmp_path, now_ms=START_MS)
    for operation in History(SEED, 1_500).operations():
        if isinstance(operation, Clock):
            real.set_clock(real.now_ms + operation.by_ms)
        else:
            real.call(operation)
    live, live_audit = shown(real), real.call(admin_pb2.AuditRequest())
    offline = json.loads(_native.audit_directory(str(real.directory)))
    if is_clean:
        real.reopen()
    else:
        real.recover()
    again, again_audit = shown(real), real.call(admin_pb2.AuditRequest())
    real.close()

    assert live_audit.holds
    assert offline["holds"]
    assert offline["sequence"] == live_audit.place.as_of_sequence
    assert again == live
    assert list(again_audit.pools) == list(live_audit.pools)
    assert list(again_audit.reservation_counts) == list(live_audit.reservation_counts)
