"""The client's own enumerations agree with the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client import outcomes
from lastunit.stock.v1 import (
    availability_pb2,
    outcome_pb2,
    place_pb2,
    reservation_pb2,
    sale_pb2,
    stock_service_pb2,
)

if TYPE_CHECKING:
    import enum

PAIRS: list[tuple[type[enum.IntEnum], Any]] = [
    (outcomes.Outcome, outcome_pb2.Outcome),
    (outcomes.State, reservation_pb2.State),
    (outcomes.ReleaseReason, reservation_pb2.ReleaseReason),
    (outcomes.AttemptState, reservation_pb2.AttemptState),
    (outcomes.PaymentResult, reservation_pb2.PaymentResult),
    (outcomes.Disposition, reservation_pb2.Disposition),
    (outcomes.SaleState, sale_pb2.SaleState),
    (outcomes.Level, availability_pb2.Level),
    (outcomes.Durability, place_pb2.Durability),
]


@pytest.mark.parametrize(("ours", "wire"), PAIRS, ids=[ours.__name__ for ours, _ in PAIRS])
def test_enumerations_equal_the_contract(ours: type[enum.IntEnum], wire: Any) -> None:
    """Each name and number of the contract is there, and no other."""
    prefix = _prefix(wire.DESCRIPTOR.name)

    assert {name.removeprefix(prefix): number for name, number in wire.items()} == {
        each.name: each.value for each in ours
    }


@pytest.mark.parametrize("ours", [ours for ours, _ in PAIRS])
def test_a_number_of_a_newer_server_reads_as_unspecified(ours: type[enum.IntEnum]) -> None:
    """A client that is older than the server does not fall over its news."""
    assert ours(0) is ours(9_999)


def test_a_reply_tells_what_the_message_says() -> None:
    """Each property of a reply shows the field of the same meaning."""
    response = stock_service_pb2.ReserveResponse()
    response.result.outcome = outcome_pb2.OUTCOME_SOLD_OUT
    response.result.level = availability_pb2.LEVEL_HELD_OUT
    response.result.replayed = True
    response.result.conflict_field = "lines"
    response.result.come_back_time.FromMilliseconds(1_700_000_000_123)
    response.place.sequence = 7
    response.place.as_of_sequence = 9
    reply = outcomes.Reply(response)

    assert reply.outcome is outcomes.Outcome.SOLD_OUT
    assert not reply.is_ok
    assert reply.is_replayed
    assert reply.conflict_field == "lines"
    assert reply.level is outcomes.Level.HELD_OUT
    assert reply.state is outcomes.State.UNSPECIFIED
    assert (reply.sequence, reply.as_of_sequence) == (7, 9)
    assert reply.come_back_ms == 1_700_000_000_123


def test_a_reply_without_a_time_to_come_back_says_none() -> None:
    """Never is not the first of January 1970."""
    assert outcomes.Reply(stock_service_pb2.ReserveResponse()).come_back_ms is None


def _prefix(name: str) -> str:
    words = "".join(f"_{letter}" if letter.isupper() else letter for letter in name)
    return words.lstrip("_").upper() + "_"
