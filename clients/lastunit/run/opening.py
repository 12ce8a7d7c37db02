"""Opens the sale: policy, pools and stock in the ledger, accounts in the account service.

Owns these calls. Must not start anything. Next: ``job.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.account.v1 import account_service_pb2, account_service_pb2_grpc
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.client.aio import StockClient
    from lastunit.run.sale import SaleFile

__all__ = ["OpeningError", "open_sale", "register_accounts"]

_ACTOR: Final = "lastunit-run"
_REASON: Final = "main job"
_ACCOUNTS_PER_CALL: Final = 1_000
_CALL_SECONDS_MAX: Final = 60.0


class OpeningError(Exception):
    """A service refused what the sale needs."""


async def open_sale(client: StockClient, file: SaleFile) -> None:
    """Gives the ledger the sale's policy, pools and units.

    Raises:
        OpeningError: The ledger refused; the text says what.
    """
    sale = file.sale
    policy = sale_pb2.SalePolicy(
        units_per_person_max=sale.units_per_person_max, unpaid_reservations_per_person_max=1
    )
    policy.reservation_ttl.FromMilliseconds(_ms(file, sale.reservation_ttl_seconds))
    policy.settle_by.FromMilliseconds(_ms(file, sale.settle_by_seconds))
    policy.retry_grace.FromMilliseconds(_ms(file, sale.retry_grace_seconds))
    policy.max_life.FromMilliseconds(_ms(file, sale.max_life_seconds))
    _check(
        "PutSale",
        await client.admin.put_sale(
            admin.PutSaleRequest(
                request_id="run-sale",
                actor=_ACTOR,
                reason=_REASON,
                sale_id=sale.sale_id,
                policy=policy,
            )
        ),
    )
    for position, pool in enumerate(file.pools):
        put = admin.PutPoolRequest(
            request_id=f"run-pool-{position}",
            actor=_ACTOR,
            reason=_REASON,
            sale_id=sale.sale_id,
            sku=sale.sku,
            pool=pool.pool,
            position=position,
            is_offered=True,
        )
        _check("PutPool", await client.admin.put_pool(put))
        supply = admin.SupplyStockRequest(
            request_id=f"run-supply-{position}",
            actor=_ACTOR,
            reason=_REASON,
            sale_id=sale.sale_id,
            sku=sale.sku,
            pool=pool.pool,
            units=pool.units,
        )
        _check("SupplyStock", await client.admin.supply_stock(supply))


async def register_accounts(
    address: str, count: int, *, on_progress: Callable[[int], None]
) -> list[str]:
    """Registers one account per buyer, a thousand to a call.

    Args:
        address: ``host:port`` of the account service.
        count: How many, 1 or more.
        on_progress: Called with the number registered so far.

    Returns:
        The ids of the accounts.

    Raises:
        OpeningError: An account was refused.
    """
    account_ids: list[str] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        for start in range(0, count, _ACCOUNTS_PER_CALL):
            numbers = range(start, min(start + _ACCOUNTS_PER_CALL, count))
            request = account_service_pb2.RegisterAccountsRequest(
                registrations=[_registration(number) for number in numbers]
            )
            answer = await stub.RegisterAccounts(request, timeout=_CALL_SECONDS_MAX)
            for result in answer.results:
                if not result.account_id:
                    name = account_service_pb2.Refusal.Name(result.refusal)
                    raise OpeningError(f"the account service refused a buyer: {name}")
                account_ids.append(result.account_id)
            on_progress(len(account_ids))
    return account_ids


def _registration(number: int) -> account_service_pb2.RegisterRequest:
    return account_service_pb2.RegisterRequest(
        request_id=f"run-account-{number}",
        identifier=account_service_pb2.Identifier(email=f"buyer-{number}@buyers.example"),
        proof="000000",
    )


def _ms(file: SaleFile, sale_seconds: float) -> int:
    return max(1, round(file.seconds(sale_seconds) * 1_000))


def _check(what: str, reply: Any) -> None:
    if not reply.is_ok:
        raise OpeningError(f"the ledger refused {what}: {reply.outcome.name}")
