"""Calls that share messages: none is lost, none is sent out of order, each ends once."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc
import pytest

from lastunit import errors
from lastunit.client.aio import ExchangeLimits, Line, Outcome, Reply, StockClient
from lastunit.service.faults import FaultError
from lastunit.stock.v1 import fault_pb2, stock_service_pb2

from .fake_ledger import FakeLedger, unavailable

Reserved = Reply[stock_service_pb2.ReserveResponse]


async def reserve(
    client: StockClient, identifier: str, *, deadline_seconds: float | None = None
) -> Reserved:
    """Reserves one unit under the identifier."""
    return await client.reserve(
        identifier,
        sale_id="flash",
        person_id="p-1",
        lines=[Line("phone")],
        deadline_seconds=deadline_seconds,
    )


async def test_calls_in_flight_together_share_messages(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A thousand concurrent calls travel in a handful of messages."""
    names = [f"r-{index}" for index in range(1000)]

    replies = await asyncio.gather(*(reserve(client, name) for name in names))

    assert [reply.outcome for reply in replies] == [Outcome.OK] * 1000
    assert len(ledger.message_sizes) <= 4
    assert sum(ledger.message_sizes) == 1000


async def test_operations_arrive_in_the_order_of_their_calls(
    ledger: FakeLedger, client: StockClient
) -> None:
    """What was called first is received first, across many messages."""
    names = [f"r-{index}" for index in range(3000)]

    await asyncio.gather(*(reserve(client, name) for name in names))

    assert names == ledger.received


async def test_each_caller_gets_the_reply_of_its_own_operation(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Replies are handed out by position, so each caller sees the sequence of its id."""
    names = [f"r-{index}" for index in range(500)]

    replies = await asyncio.gather(*(reserve(client, name) for name in names))

    assert [ledger.first_sequences[name] for name in names] == [r.sequence for r in replies]


async def test_what_arrives_while_a_message_is_under_way_shares_the_next(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Nothing is sent behind a message that has no answer, until it is worth it."""
    ledger.answers.clear()
    first = asyncio.create_task(reserve(client, "r-0"))
    while not ledger.message_sizes:  # noqa: ASYNC110 - the fake keeps a list, not an event
        await asyncio.sleep(0.01)
    later = [asyncio.create_task(reserve(client, f"r-{index}")) for index in range(1, 51)]
    await asyncio.sleep(0.05)

    assert ledger.message_sizes == [1]

    ledger.answers.set()
    await asyncio.gather(first, *later)

    assert ledger.message_sizes == [1, 50]


async def test_a_call_to_an_idle_stream_waits_for_no_other_and_for_no_timer(
    ledger: FakeLedger, client: StockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves as a message of its own; the only timer it starts is its deadline."""
    await reserve(client, "r-0")
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def noted(when: float, *arguments: Any, **named: Any) -> asyncio.TimerHandle:
        timers.append(when - loop.time())
        return call_at(when, *arguments, **named)

    monkeypatch.setattr(loop, "call_at", noted)
    for number in range(1, 101):
        await reserve(client, f"r-{number}", deadline_seconds=50)

    assert ledger.message_sizes == [1] * 101
    assert [seconds for seconds in timers if seconds < 10] == []


async def test_full_messages_follow_each_other_up_to_the_bound(ledger: FakeLedger) -> None:
    """Two messages may be under way when each is filled, a third may not."""
    limits = ExchangeLimits(
        operations_per_message_max=10, fill_operations=10, messages_in_flight_max=2
    )
    ledger.answers.clear()
    async with StockClient(ledger.address, limits=limits) as client:
        calls = [asyncio.create_task(reserve(client, f"r-{index}")) for index in range(40)]
        await asyncio.sleep(0.1)
        under_way = client._data._in_flight

        assert [len(message) for message in under_way.values()] == [10, 10]

        ledger.answers.set()
        await asyncio.gather(*calls)

        assert ledger.message_sizes == [10, 10, 10, 10]


async def test_a_message_stays_under_four_mebibytes(ledger: FakeLedger) -> None:
    """Large operations are spread over more messages instead of being refused by the server."""
    limits = ExchangeLimits(operations_per_message_max=4096)
    lines = [Line("s" * 64, pool="p" * 64) for _ in range(32)]
    async with StockClient(ledger.address, limits=limits) as client:
        replies = await asyncio.gather(
            *(
                client.reserve(f"r-{index}", sale_id="flash", person_id="p", lines=lines)
                for index in range(1500)
            )
        )

    assert all(reply.is_ok for reply in replies)
    assert len(ledger.message_sizes) >= 2
    assert max(ledger.message_sizes) < 1000


async def test_a_lost_answer_is_asked_for_again_with_the_same_id(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A stream that breaks after the effect leads to one effect and a replayed reply."""
    ledger.message_script.append("lose")

    reply = await reserve(client, "r-1")

    assert reply.is_ok
    assert reply.is_replayed
    assert ledger.received == ["r-1", "r-1"]
    assert ledger.effects["r-1"] == 1


async def test_every_operation_of_a_broken_stream_ends_once(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Streams that break again and again cost tries, not operations."""
    ledger.message_script.extend(["lose", unavailable(), "end", None, "lose"])

    replies = await asyncio.gather(*(reserve(client, f"r-{index}") for index in range(600)))

    assert [reply.is_ok for reply in replies] == [True] * 600
    assert len(ledger.effects) == 600
    assert ledger.stream_count >= 4


async def test_operations_go_again_in_their_order(ledger: FakeLedger, client: StockClient) -> None:
    """A broken stream puts what was in flight back in front of what waits."""
    ledger.message_script.append(unavailable())
    names = [f"r-{index}" for index in range(300)]

    await asyncio.gather(*(reserve(client, name) for name in names))

    assert names == ledger.received


async def test_a_server_that_restarts_is_found_again(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Calls made while the server is down succeed once it is back on the same port."""
    await reserve(client, "r-0")
    await ledger.stop()
    calls = [asyncio.create_task(reserve(client, f"r-{index}")) for index in range(1, 20)]
    await asyncio.sleep(0.3)
    await ledger.start()

    replies = await asyncio.gather(*calls)

    assert all(reply.is_ok for reply in replies)


async def test_a_fault_belongs_to_its_operation_alone(
    ledger: FakeLedger, client: StockClient
) -> None:
    """One invalid operation raises for its caller, and the others get their replies."""
    ledger.faults["r-1"] = _script(
        fault_pb2.Fault(
            code=grpc.StatusCode.INVALID_ARGUMENT.value[0],
            message="units is 0, it must be 1 or more",
            reason="INVALID_ARGUMENT",
            violations=[
                fault_pb2.FieldViolation(
                    field="lines[0].units", rule="int64.gte", description="must be 1 or more"
                )
            ],
        )
    )

    good, bad = await asyncio.gather(
        reserve(client, "r-0"), reserve(client, "r-1"), return_exceptions=True
    )

    assert isinstance(good, Reply)
    assert isinstance(bad, errors.InvalidArgumentError)
    assert [errors.Violation("lines[0].units", "must be 1 or more", "int64.gte")] == list(
        bad.violations
    )


async def test_a_shed_operation_is_not_tried_again(ledger: FakeLedger, client: StockClient) -> None:
    """Admission's no reaches the caller with lane, bucket and when to come back."""
    fault = fault_pb2.Fault(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
        message="the bucket is empty, come back in 250 ms",
        reason="RATE_LIMITED",
        metadata={"lane": "reservation", "bucket": "caller"},
    )
    fault.retry_after.FromMilliseconds(250)
    ledger.faults["r-1"] = _script(fault)

    with pytest.raises(errors.ShedError) as caught:
        await reserve(client, "r-1")

    assert caught.value.retry_after_seconds == 0.25
    assert (caught.value.lane, caught.value.bucket) == ("reservation", "caller")
    assert caught.value.reason == "RATE_LIMITED"
    assert ledger.received == ["r-1 refused"]


async def test_an_unavailable_operation_goes_again_and_others_do_not_wait(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A fault UNAVAILABLE of one operation is cured by a later message."""
    fault = fault_pb2.Fault(code=grpc.StatusCode.UNAVAILABLE.value[0], message="later")
    ledger.faults["r-1"] = _script(fault, fault)

    replies = await asyncio.gather(reserve(client, "r-1"), reserve(client, "r-2"))

    assert all(reply.is_ok for reply in replies)
    assert ledger.received == ["r-1 refused", "r-2", "r-1 refused", "r-1"]


async def test_a_negative_pushback_ends_the_retries(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A stream that ends with a push-back of -1 fails its operations at once."""
    never = FaultError(grpc.StatusCode.UNAVAILABLE, "never here", reason="MOVED")
    never.trailers = lambda: (("grpc-retry-pushback-ms", "-1"),)  # type: ignore[method-assign]
    ledger.message_script.append(never)

    with pytest.raises(errors.UnavailableError, match="never here"):
        await reserve(client, "r-1", deadline_seconds=30)

    assert ledger.received == []
    assert ledger.stream_count == 1


async def test_a_stream_refused_for_good_fails_what_it_carried(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A status that no retry cures reaches the caller as its error."""
    ledger.message_script.append(
        FaultError(grpc.StatusCode.PERMISSION_DENIED, "not you", reason="NOT_ALLOWED")
    )

    with pytest.raises(errors.AccessError) as caught:
        await reserve(client, "r-1")

    assert caught.value.is_authenticated
    assert (await reserve(client, "r-2")).is_ok


@pytest.mark.parametrize("fraud", ["short", "other"])
async def test_answers_that_nobody_asked_for_break_the_stream(
    ledger: FakeLedger, client: StockClient, fraud: str
) -> None:
    """A wrong number of replies is never handed out by position."""
    ledger.message_script.append(fraud)

    with pytest.raises(errors.StatusError, match="the server") as caught:
        await reserve(client, "r-1")

    assert caught.value.reason == "EXCHANGE_BROKEN"
    assert (await reserve(client, "r-1")).is_replayed


async def test_no_answer_until_the_deadline_says_that_the_effect_is_unknown(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A silent server costs its callers their deadline and no more."""
    ledger.answers.clear()

    with pytest.raises(errors.DeadlineExceededError) as caught:
        await reserve(client, "r-1", deadline_seconds=0.1)

    assert caught.value.deadline_seconds == 0.1


async def test_a_silent_stream_is_left_for_a_new_one(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Once a whole message went overdue, later calls are sent on a stream of their own."""
    ledger.answers.clear()
    with pytest.raises(errors.DeadlineExceededError):
        await reserve(client, "r-1", deadline_seconds=0.1)
    ledger.answers.set()

    reply = await reserve(client, "r-2")

    assert reply.is_ok
    assert ledger.stream_count == 2


async def test_an_outage_longer_than_the_deadline_names_the_outage(
    ledger: FakeLedger, client: StockClient
) -> None:
    """The error of a server that is down is UNAVAILABLE, not just a missed deadline."""
    await ledger.stop()

    with pytest.raises(errors.UnavailableError):
        await reserve(client, "r-1", deadline_seconds=0.3)

    await ledger.start()


async def test_a_cancelled_call_is_not_sent(ledger: FakeLedger, client: StockClient) -> None:
    """Who goes away before the message leaves costs the server nothing."""
    ledger.answers.clear()
    first = asyncio.create_task(reserve(client, "r-0"))
    while not ledger.message_sizes:  # noqa: ASYNC110 - the fake keeps a list, not an event
        await asyncio.sleep(0.01)
    gone = asyncio.create_task(reserve(client, "r-1"))
    stays = asyncio.create_task(reserve(client, "r-2"))
    await asyncio.sleep(0)
    gone.cancel()
    ledger.answers.set()
    await asyncio.gather(first, stays)

    assert ledger.received == ["r-0", "r-2"]


async def test_one_operation_too_many_is_refused_as_busy(ledger: FakeLedger) -> None:
    """At the limit a call waits, one past it is refused before anything is sent."""
    ledger.answers.clear()
    async with StockClient(ledger.address, limits=ExchangeLimits(pending_max=3)) as client:
        open_calls = [asyncio.create_task(reserve(client, f"r-{index}")) for index in range(3)]
        await asyncio.sleep(0.05)

        with pytest.raises(errors.BusyError) as caught:
            await reserve(client, "r-3")

        assert caught.value.limit == 3
        ledger.answers.set()
        assert all(reply.is_ok for reply in await asyncio.gather(*open_calls))


async def test_close_waits_for_answers_under_way(ledger: FakeLedger) -> None:
    """A call that is answered within the grace returns although the client is closing."""
    ledger.answers.clear()
    client = StockClient(ledger.address)
    call = asyncio.create_task(reserve(client, "r-1"))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(client.close(grace_seconds=10))
    await asyncio.sleep(0.05)
    ledger.answers.set()
    await closing

    assert (await call).is_ok
    with pytest.raises(errors.ClosedError):
        await reserve(client, "r-2")


async def test_close_ends_calls_that_nobody_answers(ledger: FakeLedger) -> None:
    """What is open after the grace raises ClosedError."""
    ledger.answers.clear()
    client = StockClient(ledger.address)
    call = asyncio.create_task(reserve(client, "r-1"))
    await asyncio.sleep(0.05)
    await client.close(grace_seconds=0)

    with pytest.raises(errors.ClosedError):
        await call


async def test_close_ends_although_grpc_swallows_the_cancellation(ledger: FakeLedger) -> None:
    """A connection that fails at the moment of closing does not keep the client open."""

    class Swallowing:
        """Answers a cancellation with the failure of its connection, as grpc.aio can."""

        async def read(self) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise grpc.aio.AioRpcError(
                    grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata()
                ) from None

        async def write(self, _message: bytes) -> None:
            """Takes a message and tells nobody."""

        def cancel(self) -> None:
            """Changes nothing."""

    client = StockClient(ledger.address)
    client._data._open = lambda **_metadata: Swallowing()
    call = asyncio.create_task(reserve(client, "r-1"))
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(client.close(grace_seconds=0))
    await asyncio.wait([closing], timeout=10)

    assert closing.done()
    with pytest.raises(errors.ClosedError):
        await call


async def test_settlement_and_reservations_use_their_own_listeners(ledger: FakeLedger) -> None:
    """With two addresses, payments never share a connection with reservations."""
    settlement = FakeLedger()
    await settlement.start()
    async with StockClient(
        ledger.address, settlement_address=settlement.address, caller="orders"
    ) as client:
        await reserve(client, "r-1")
        await client.begin_payment("r-1:1", reservation_id="r-1")
        await client.release("q-1", reservation_id="r-1")
        await client.admin.audit()
    await settlement.stop()

    assert ledger.received == ["r-1"]
    assert settlement.received == ["r-1:1", "q-1"]


async def test_a_new_stream_carries_what_the_client_has_seen(
    ledger: FakeLedger, client: StockClient
) -> None:
    """After a break the server learns the highest sequence, so that it cannot fall behind it."""
    await asyncio.gather(*(reserve(client, f"r-{index}") for index in range(7)))
    ledger.message_script.append("lose")
    await reserve(client, "r-7")

    first, second = ledger.metadata
    assert first["lastunit-caller"] == "test"
    assert "lastunit-seen-sequence" not in first
    assert (second["lastunit-seen-sequence"], second["lastunit-seen-epoch"]) == ("7", "1")


async def test_a_rolled_back_journal_is_told_with_what_was_seen(
    ledger: FakeLedger, client: StockClient
) -> None:
    """The refusal of a server that is behind is an error of its own until it is accepted."""
    await asyncio.gather(*(reserve(client, f"r-{index}") for index in range(5)))
    ledger.message_script.append(
        FaultError(
            grpc.StatusCode.FAILED_PRECONDITION, "it ends at 3", reason="JOURNAL_ROLLED_BACK"
        )
    )

    with pytest.raises(errors.RolledBackError) as caught:
        await reserve(client, "r-5")

    assert caught.value.seen_sequence == 5
    client.forget_seen()
    assert client.seen_sequence == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pending_max", 0),
        ("operations_per_message_max", 0),
        ("operations_per_message_max", 4097),
        ("messages_in_flight_max", 0),
        ("messages_in_flight_max", 17),
        ("fill_operations", 0),
    ],
)
def test_limits_outside_of_their_ranges_are_refused(name: str, value: int) -> None:
    """A wrong limit is named when it is set, not when it hurts."""
    with pytest.raises(ValueError, match=name):
        ExchangeLimits(**{name: value})


def test_limits_at_their_ends_are_taken() -> None:
    """The smallest and the largest value of each range are fine."""
    ExchangeLimits(
        pending_max=1, operations_per_message_max=1, messages_in_flight_max=1, fill_operations=1
    )
    ExchangeLimits(operations_per_message_max=4096, messages_in_flight_max=16)


def _script(*faults: fault_pb2.Fault) -> deque[fault_pb2.Fault]:
    return deque(faults)
