"""Two processes of order and of payment on one PostgreSQL, any of which may be killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from tests.crash import shop_books
from tests.crash.shop import Shop
from tests.storage import open_database

from lastunit.payment import schema as payments
from lastunit.payment.schema import PAYMENT_METADATA

if TYPE_CHECKING:
    from pathlib import Path

    from tests.postgres import PostgresServer

SEED = 20_261_123


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_the_bill_equals_the_books_although_everybody_was_killed(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Each success is applied, refunded or owed; no reservation is stuck; nothing happened twice.

    Order, payment, webhook and ledger are killed, the database is crashed and its sessions ended,
    while callbacks are lost, doubled and late.
    """
    with postgres_server.database() as name:
        shop = Shop(tmp_path, SEED, 2, postgres_server, postgres_server.url(name))
        async with shop:
            await shop.run(kills=30)
            found = await shop.settle()

    assert found == [], f"seed {SEED}"
    assert {"order-0", "order-1", "payment-0", "payment-1"} <= set(shop.kills)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_one_of_each_on_sqlite_survives_the_same(tmp_path: Path) -> None:
    """The same kills with the default database."""
    shop = Shop(tmp_path, SEED)
    async with shop:
        await shop.run(kills=15)
        found = await shop.settle()

    assert found == [], f"seed {SEED}"
    assert {"order-0", "payment-0"} <= set(shop.kills)


def attempt(number: str, paid_minor: int) -> dict[str, object]:
    """Returns the row of an attempt that nobody asks for any more."""
    return {
        "attempt_id": number,
        "order_id": number,
        "reservation_id": number,
        "provider": "sandbox",
        "method": "card",
        "amount_minor": 100,
        "currency": "CNY",
        "state": "SUCCEEDED" if paid_minor else "CANCELLED",
        "paid_amount_minor": paid_minor,
        "start_ms": 1,
        "settle_by_ms": 2,
    }


def test_books_that_are_wrong_are_found_out(tmp_path: Path) -> None:
    """A payment that is in the bill only, one in the books only, and one nobody told of."""
    (tmp_path / "payment").mkdir()
    from lastunit.service.database import Database

    path = tmp_path / "payment" / "payment.sqlite"
    with Database(path, PAYMENT_METADATA) as database, database.engine.begin() as connection:
        rows = [attempt("told", 100), attempt("untold", 100), attempt("unbilled", 100)]
        connection.execute(sa.insert(payments.attempts), [*rows, attempt("lost", 0)])
        settlement = {
            "request_id": "told:succeeded",
            "attempt_id": "told",
            "reservation_id": "told",
            "payment_result": "SUCCEEDED",
            "occurred_ms": 1,
            "evidence": "",
            "create_ms": 1,
        }
        connection.execute(sa.insert(payments.settlements), settlement)
    _, engine = shop_books.places(tmp_path, "")
    bill = [
        {"merchant_no": number, "amount_minor": 100, "refunded_minor": 0}
        for number in ("told", "untold", "lost")
    ]
    found = shop_books.compare_money(engine, bill)

    assert found == [
        "lost: the bill says (100, 0), the books None",
        "unbilled: the bill says None, the books (100, 0)",
        "untold: paid, neither told to the ledger nor owed",
        "unbilled: paid, neither told to the ledger nor owed",
    ]
    assert shop_books.compare_orders(
        open_database(shop_books.orders.ORDER_METADATA).engine, {"o-1": "PAYING", "o-2": "RELEASED"}
    ) == ["o-1: its reservation is PAYING"]
