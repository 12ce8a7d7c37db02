"""The test can fail: mistakes planted in the model, one at a time, are found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastunit.reference import (
    Ledger,
    levels,
    limits,
    persons,
    pools,
    reserving,
    returning,
    settling,
    timers,
)
from lastunit.stock.v1 import reservation_pb2

from . import comparing
from .histories import History

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.reference.answers import Answer
    from lastunit.reference.state import Part, Pool, Reservation, Sale, Sku

Patch = pytest.MonkeyPatch
SEEDS = range(1, 81)
LENGTH = 500


def lines_are_not_summed(patch: Patch) -> None:
    """Each line is checked against the stock by itself."""
    real = pools.draw

    def draw(sale: Sale, lines: list[Any]) -> tuple[list[Part], Sku | None]:
        found: list[Part] = []
        for index, line in enumerate(lines):
            parts, lacking = real(sale, [line])
            if lacking:
                return [], lacking
            for part in parts:
                part.line_index = index
            found += parts
        return found, None

    patch.setattr(pools, "draw", draw)


def stock_is_looked_at_before_the_id(patch: Patch) -> None:
    """A repeat is refused when its own units have emptied the pool."""
    real = reserving.repeat

    def repeat(
        ledger: Ledger, request: Any, known: Reservation, lines: list[Any], ttl: int | None
    ) -> Answer:
        refusal = reserving.refuse_by_sale(ledger, known.sale)
        return refusal or real(ledger, request, known, lines, ttl)

    patch.setattr(reserving, "repeat", repeat)


def the_clock_ends_payments(patch: Patch) -> None:
    """A late payment is released like a hold."""

    def become_overdue(ledger: Ledger, reservation: Reservation) -> bool:
        reason = reservation_pb2.RELEASE_REASON_EXPIRED
        returning.give_back(ledger, reservation, reason)
        return True

    patch.setattr(timers, "become_overdue", become_overdue)


def late_money_is_owed_though_a_unit_is_free(patch: Patch) -> None:
    """A success after the release never takes a unit again."""
    patch.setattr(settling, "parts_for_late_money", lambda *_: None)


def late_money_leaves_the_buffer(patch: Patch) -> None:
    """Late money draws on what is for sale only."""
    patch.setattr(pools, "buffer_of", lambda _pool: 0)


def a_failure_beats_a_success(patch: Patch) -> None:
    """News of equal or lower rank counts."""
    patch.setitem(settling.RANK_OF_NEWS, reservation_pb2.PAYMENT_RESULT_FAILED, 9)


def a_payment_that_fails_loses_the_unit(patch: Patch) -> None:
    """The last failure never goes back to a hold."""
    patch.setattr(settling, "may_try_again", lambda *_: False)


def a_merge_forgets_what_the_source_has(patch: Patch) -> None:
    """Usage is looked up under the name in the request."""
    patch.setattr(limits, "root_of", lambda _ledger, person_id: person_id)


def a_split_leaves_what_those_who_go_have(patch: Patch) -> None:
    """What was reserved stays with whom they were counted."""
    patch.setattr(persons, "count_as", lambda *_: None)


def a_return_gives_the_first_part_first(patch: Patch) -> None:
    """Units taken first return first."""
    real = returning.parts_to_return

    def parts_to_return(reservation: Reservation, request: Any) -> list[tuple[Part, int]]:
        reservation.parts.reverse()
        found = real(reservation, request)
        reservation.parts.reverse()
        return found

    patch.setattr(returning, "parts_to_return", parts_to_return)


def the_brake_does_not_hold(patch: Patch) -> None:
    """Holds expire while the brake is on."""
    patch.setattr(persons, "braked_until", lambda *_: 0)


def the_level_ignores_payments(patch: Patch) -> None:
    """A sku whose last units are being paid for counts as gone."""
    patch.setattr(levels, "units_in_payment", lambda _pool: 0)


def an_epoch_begins_with_every_supply(patch: Patch) -> None:
    """The epoch rises although there was something to sell."""
    real = levels.note_change

    def note_change(sku: Sku, sequence: int) -> None:
        sku.is_sellable = False
        real(sku, sequence)

    patch.setattr(levels, "note_change", note_change)


def a_pool_out_of_order_is_drawn_on(patch: Patch) -> None:
    """Lines draw on pools in the order of their names."""
    real = pools.pools_of_line

    def pools_of_line(sku: Sku, name: str) -> list[Pool]:
        return sorted(real(sku, name), key=lambda pool: pool.name)

    patch.setattr(pools, "pools_of_line", pools_of_line)


MISTAKES: tuple[Callable[[Patch], None], ...] = (
    lines_are_not_summed,
    stock_is_looked_at_before_the_id,
    the_clock_ends_payments,
    late_money_is_owed_though_a_unit_is_free,
    late_money_leaves_the_buffer,
    a_failure_beats_a_success,
    a_payment_that_fails_loses_the_unit,
    a_merge_forgets_what_the_source_has,
    a_split_leaves_what_those_who_go_have,
    a_return_gives_the_first_part_first,
    the_brake_does_not_hold,
    the_level_ignores_payments,
    an_epoch_begins_with_every_supply,
    a_pool_out_of_order_is_drawn_on,
)


def differs(seed: int) -> bool:
    """Tells whether model and ledger differ over the history of a seed."""
    history = History(seed, LENGTH).operations()
    return comparing.run(history, is_journal_compared=False) is not None


@pytest.mark.parametrize("plant", MISTAKES, ids=lambda plant: plant.__name__)
def test_a_planted_mistake_is_found(
    plant: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 80 short histories the model with the mistake differs from the ledger."""
    plant(monkeypatch)

    found = (differs(seed) for seed in SEEDS)
    assert any(found), f"{plant.__name__} was not found in {len(SEEDS)} histories"


def test_the_model_without_a_mistake_agrees_on_the_same_histories() -> None:
    """What finds the mistakes is no difference that is there anyway."""
    assert not any(differs(seed) for seed in SEEDS)
