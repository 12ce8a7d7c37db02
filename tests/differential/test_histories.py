"""Whole random histories through the model and the real ledger: every reply, counter and event."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

from . import comparing, shrinking
from .histories import START_MS, Clock, History, Operation

# A fresh seed each day's run; the printed one plays the same histories again.
SEED = int(os.environ.get("LASTUNIT_SEED", random.randrange(1, 1_000_000)))


def check(seed: int, length: int, *, reopens: bool) -> None:
    """Runs one history; a difference fails with the shortest history that shows it."""
    history = History(seed, length, reopens=reopens).operations()
    found = comparing.run(history)
    if found is None:
        return
    small = shrinking.shrink(
        history[: found.index + 1], lambda part: comparing.run(part) is not None, tries=300
    )
    told = "\n".join(f"{type(each).__name__}: {' '.join(str(each).split())}" for each in small)
    pytest.fail(
        f"{comparing.run(small) or found}\n{told}\n"
        f"replay: python -m tests.differential --seed {seed} --operations 1 --length {length}"
    )


@pytest.mark.parametrize("number", range(12))
def test_model_and_ledger_agree_on_short_histories(number: int) -> None:
    """400 operations with duplicates, changed copies and clock moves give equal replies."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    check(SEED * 1_000 + number, 400, reopens=False)


@pytest.mark.parametrize("number", range(2))
def test_model_and_ledger_agree_across_openings(number: int) -> None:
    """1,500 operations, in which the ledger is closed or killed and opened again."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    check(SEED * 1_000 + 500 + number, 1_500, reopens=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(40))
def test_model_and_ledger_agree_on_long_histories(number: int) -> None:
    """5,000 operations each, 200,000 in all."""
    print(f"LASTUNIT_SEED={SEED}")  # noqa: T201 - pytest shows it when a test fails
    check(SEED * 1_000 + 600 + number, 5_000, reopens=True)


def test_a_history_is_made_by_its_seed_alone() -> None:
    """The same seed makes the same operations, another seed others."""

    def made(seed: int) -> list[Operation]:
        return History(seed, 300, reopens=True).operations()

    assert made(7) == made(7)
    assert made(7) != made(8)


@pytest.mark.parametrize("seconds", [2, 5_000, 20_000])
def test_what_was_claimed_before_its_sale_forgot_while_open_outlives_its_copies(
    seconds: int,
) -> None:
    """A claim of an ordinary sale may name any end; it is kept until then, and the next with it."""
    sale = admin_pb2.PutSaleRequest(request_id="q-1", actor="me", reason="try", sale_id="sale")
    sale.policy.forget_after.seconds = 1
    sku: dict[str, Any] = {"sale_id": "sale", "sku": "unit", "pool": "main"}
    by = {"actor": "me", "reason": "try"}
    rolling = admin_pb2.PutSaleRequest()
    rolling.CopyFrom(sale)
    rolling.request_id = "q-4"
    rolling.policy.does_forget_while_open = True

    def reserve(name: str, ahead: int) -> stock_pb2.ReserveRequest:
        line = reservation_pb2.Line(sku="unit", units=1)
        request = stock_pb2.ReserveRequest(
            reservation_id=name, sale_id="sale", person_id=name, lines=[line]
        )
        request.not_after_time.FromMilliseconds(START_MS + ahead * 1_000)
        return request

    history: list[Operation] = [
        sale,
        admin_pb2.PutPoolRequest(request_id="q-2", **sku, **by, is_offered=True),
        admin_pb2.SupplyStockRequest(request_id="q-3", **sku, **by, units=5),
        reserve("r-1", seconds),
        reserve("r-2", 1),
        rolling,
        *(Clock(by_ms=step) for step in (601_000, 300_000, 3_600_000, 100_000_000)),
    ]

    assert comparing.run(history) is None
