"""Thousands of buyers at once over gRPC: each gets an answer, or is told when to come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from lastunit.client.outcomes import Outcome, Reply
from lastunit.order.core import OrderCore
from lastunit.order.grpc_service import SERVICE_NAME, OrderServicer
from lastunit.order.persons import AccountState, PersonDirectory, ResolvedPerson
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.settings import OrderSettings
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.order.v1 import order_service_pb2_grpc
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database
from lastunit.service.server import ServiceServer
from lastunit.stock.v1 import outcome_pb2, stock_service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

# More than gRPC lets wait by itself: past 3,000 it would cancel calls without a word.
BUYERS = 4_000


class SoldOutLedger:
    """Refuses everybody, once `gate` is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def reserve(
        self, _reservation_id: str, **_options: Any
    ) -> Reply[stock_service_pb2.ReserveResponse]:
        """Refuses."""
        await self.gate.wait()
        result = outcome_pb2.Result(outcome=outcome_pb2.OUTCOME_SOLD_OUT)
        return Reply(stock_service_pb2.ReserveResponse(result=result))


class EveryAccount:
    """Knows everybody."""

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the persons."""
        return {each: ResolvedPerson(each, each, AccountState.ACTIVE) for each in account_ids}


class Shop:
    """An order service behind gRPC whose ledger is sold out."""

    def __init__(self, directory: Path, settings: OrderSettings) -> None:
        self.ledger = SoldOutLedger()
        self._database = Database(directory / "order.sqlite", ORDER_METADATA)
        clock = SystemClock()
        core = OrderCore(
            database=self._database,
            ledger=self.ledger,  # type: ignore[arg-type] # refusals need no other method
            persons=PersonDirectory(EveryAccount(), clock),
            payments=None,  # type: ignore[arg-type] # nobody gets as far as to pay
            prices=Prices(plain(default_minor=1)),
            clock=clock,
            settings=settings,
        )
        self._server = ServiceServer("order", service_names=(SERVICE_NAME,))
        order_service_pb2_grpc.add_OrderServiceServicer_to_server(
            OrderServicer(core), self._server.grpc
        )

    async def open(self) -> grpc.aio.Channel:
        """Serves; returns a channel to it."""
        return grpc.aio.insecure_channel(await self._server.start())

    async def close(self) -> None:
        """Stops."""
        await self._server.stop(0)
        self._database.close()


@pytest.fixture
async def shop(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """A shop with the settings of the test's parameter."""
    created = Shop(tmp_path, getattr(request, "param", OrderSettings()))
    yield created
    await created.close()


async def press(
    stub: order_service_pb2_grpc.OrderServiceAsyncStub, buyer: int
) -> pb.PlaceOrderResponse | grpc.aio.AioRpcError:
    """Presses the button; returns the answer or the error."""
    request = pb.PlaceOrderRequest(
        request_id=f"request-{buyer}", account_id=f"account-{buyer}", sale_id="flash"
    )
    request.lines.add(sku="phone", units=1)
    try:
        return await stub.PlaceOrder(request, timeout=100)
    except grpc.aio.AioRpcError as error:
        return error


async def test_every_one_of_thousands_at_once_is_answered(shop: Shop) -> None:
    """All calls are open before the first answer; none is cancelled, dropped or refused."""
    async with await shop.open() as channel:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        presses = [asyncio.create_task(press(stub, buyer)) for buyer in range(BUYERS)]
        await asyncio.sleep(0)
        shop.ledger.gate.set()
        answers = await asyncio.gather(*presses)
    outcomes = Counter(
        answer.code().name
        if isinstance(answer, grpc.aio.AioRpcError)
        else Outcome(answer.outcome).name
        for answer in answers
    )

    assert dict(outcomes) == {"SOLD_OUT": BUYERS}


@pytest.mark.parametrize("shop", [OrderSettings(place_calls_max=100)], indirect=True)
async def test_one_call_more_than_fits_is_told_when_to_come_back(shop: Shop) -> None:
    """With 100 calls under way the next is RESOURCE_EXHAUSTED with RetryInfo; they are served."""
    async with await shop.open() as channel:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        presses = [asyncio.create_task(press(stub, buyer)) for buyer in range(101)]
        done, waiting = await asyncio.wait(presses, return_when=asyncio.FIRST_COMPLETED)
        refused = done.pop().result()
        shop.ledger.gate.set()
        answers = await asyncio.gather(*waiting)

    assert isinstance(refused, grpc.aio.AioRpcError)
    assert grpc.StatusCode.RESOURCE_EXHAUSTED is refused.code()
    assert _retry_ms(refused) > 0
    assert {Outcome.SOLD_OUT} == {
        Outcome(answer.outcome) for answer in answers if isinstance(answer, pb.PlaceOrderResponse)
    }
    assert len(answers) == 100


def _retry_ms(error: grpc.aio.AioRpcError) -> int:
    """Returns when an error says to come back, in milliseconds."""
    status: Any = rpc_status.from_call(error)
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return int(info.retry_delay.ToMilliseconds())
    return 0
