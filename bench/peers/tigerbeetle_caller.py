"""TigerBeetle's Python client at the work of the comparison.

Owns: which accounts stand for what. A sku's account is funded with its stock and can't go below
nothing; a buyer's is funded with the limit and can't go above it; so one pending transfer between
them checks stock, limit and repeat, and holds until its timeout. Run as
`python -m bench.peers.tigerbeetle_caller ADDRESS` it makes the accounts.
"""

from __future__ import annotations

import contextlib
import random
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

with contextlib.suppress(ImportError):  # Who asks for this peer looks for its client first.
    import tigerbeetle

# Accounts must be there before they are used, so there are fewer buyers than elsewhere, with a
# limit that none of them meets.
BUYERS = 100_000
LIMIT = 1_000_000
SUPPLY, SKU, FIRST_BUYER = 1, 2, 1_000
UNITS = 10**12
HOLD_SECONDS = 600
BATCH_MAX = 8189


class TigerBeetleCaller:
    """A session of the sync client."""

    def __init__(self, address: str) -> None:
        self._client: Any = tigerbeetle.ClientSync(cluster_id=0, replica_addresses=address)
        self._pending: list[int] = []

    def reserve(self, ids: list[str]) -> int:
        """Sends one batch of pending transfers, under ids of TigerBeetle's own kind."""
        self._pending = [tigerbeetle.id() for _ in ids]
        flags = tigerbeetle.TransferFlags.PENDING
        return self._send(
            [
                tigerbeetle.Transfer(
                    id=name,
                    debit_account_id=SKU,
                    credit_account_id=FIRST_BUYER + random.randrange(BUYERS),
                    amount=1,
                    timeout=HOLD_SECONDS,
                    ledger=1,
                    code=1,
                    flags=flags,
                )
                for name in self._pending
            ]
        )

    def confirm(self, ids: list[str]) -> int:
        """Sends one batch that posts what the last one held."""
        assert len(ids) == len(self._pending)
        flags = tigerbeetle.TransferFlags.POST_PENDING_TRANSFER
        most = tigerbeetle.AMOUNT_MAX
        return self._send(
            [
                tigerbeetle.Transfer(id=tigerbeetle.id(), pending_id=name, amount=most, flags=flags)
                for name in self._pending
            ]
        )

    def _send(self, transfers: list[Any]) -> int:
        created = tigerbeetle.CreateTransferStatus.CREATED
        results = self._client.create_transfers(transfers)
        return sum(it.status == created for it in results)


def prepare(address: str) -> None:
    """Makes and funds all accounts."""
    account, transfer, flags = (
        tigerbeetle.Account,
        tigerbeetle.Transfer,
        tigerbeetle.AccountFlags,
    )
    buyers = range(FIRST_BUYER, FIRST_BUYER + BUYERS)
    above, below = flags.CREDITS_MUST_NOT_EXCEED_DEBITS, flags.DEBITS_MUST_NOT_EXCEED_CREDITS
    accounts = [account(id=SUPPLY, ledger=1, code=1)]
    accounts += [account(id=SKU, ledger=1, code=1, flags=below)]
    accounts += [account(id=it, ledger=1, code=1, flags=above) for it in buyers]
    funds = [(SUPPLY, SKU, UNITS), *((it, SUPPLY, LIMIT) for it in buyers)]
    transfers = [
        transfer(
            id=number + 1,
            debit_account_id=debit,
            credit_account_id=credit,
            amount=amount,
            ledger=1,
            code=1,
        )
        for number, (debit, credit, amount) in enumerate(funds)
    ]
    with tigerbeetle.ClientSync(cluster_id=0, replica_addresses=address) as client:
        _send_all(client.create_accounts, accounts, tigerbeetle.CreateAccountStatus.CREATED)
        _send_all(client.create_transfers, transfers, tigerbeetle.CreateTransferStatus.CREATED)


def _send_all(send: Callable[[list[Any]], list[Any]], rows: list[Any], wanted: object) -> None:
    for first in range(0, len(rows), BATCH_MAX):
        wrong = [it.status for it in send(rows[first : first + BATCH_MAX]) if it.status != wanted]
        if wrong:
            sys.exit(f"bench: TigerBeetle did not take an account: {wrong[0]!r}")


if __name__ == "__main__":
    prepare(sys.argv[1])
