"""From which pools units come, and where they are counted afterwards.

Owns drawing, giving back and counting. Must not look at time, persons or payments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.reference.state import PLACE_OF_STATE, Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastunit.reference.state import Pool, Reservation, Sale, Sku

__all__ = ["count_as", "draw", "draw_late", "take"]

Line = tuple[str, str, int]


def pools_of_line(sku: Sku, pool_name: str) -> list[Pool]:
    """Returns the pools that a line may draw on: the one it names, or the offered in order."""
    if pool_name:
        pool = sku.pool(pool_name)
        return [pool] if pool else []
    return list(sku.offered())


def pools_for_late_money(sku: Sku, pool_name: str, *, is_from_buffer: bool) -> list[Pool]:
    """Returns the pools that late money may draw on: every buffer, and what is for sale."""
    pools = [pool for pool in sku.pools if pool_name in ("", pool.name)]
    return [pool for pool in pools if is_from_buffer or pool.is_offered]


def named_first(lines: list[Line]) -> list[tuple[int, Line]]:
    """Returns the lines in the order in which they draw: those that name their pool first.

    So a line that may draw on any pool never takes what another line needs, and no request is
    refused that the pools could serve.
    """
    if len(lines) == 1:
        return [(0, lines[0])]
    return sorted(enumerate(lines), key=lambda pair: not pair[1][1])


def draw(
    sale: Sale,
    lines: list[Line],
) -> tuple[list[Part], Sku | None]:
    """Finds the units for all lines, and changes nothing.

    Args:
        sale: Whose stock to draw on.
        lines: Sku, pool or nothing, units.

    Returns:
        The parts, and None; or the first sku that has too few.
    """
    parts: list[Part] = []
    drawn: dict[int, int] = {}
    for index, (sku_name, pool_name, units) in named_first(lines):
        sku = sale.skus[sku_name]
        missing = units
        for pool in pools_of_line(sku, pool_name):
            took = drawn.get(id(pool), 0)
            given = min(missing, pool.available - took)
            if given > 0:
                drawn[id(pool)] = took + given
                parts.append(Part(index, sku, pool, given))
                missing -= given
        if missing:
            return [], sku
    return sorted(parts, key=lambda part: part.line_index), None


def take(parts: Iterable[Part], place: str) -> None:
    """Counts drawn units in another place of their pools."""
    for part in parts:
        part.pool.move(part.units, "buffer" if part.is_from_buffer else "available", place)


def count_as(reservation: Reservation, state: int) -> None:
    """Counts the units of a reservation as its next state has it; no place means available."""
    source = PLACE_OF_STATE[reservation.state]
    target = PLACE_OF_STATE.get(state, "available")
    if source != target:
        for part in reservation.parts:
            part.pool.move(part.units - part.returned, source, target)


def buffer_of(pool: Pool) -> int:
    """Returns the units that are set aside for late money."""
    return pool.buffer


def draw_late(sale: Sale, lines: list[Line]) -> list[Part] | None:
    """Finds units for money that came late: the buffers first, then what is free."""
    parts: list[Part] = []
    drawn: dict[tuple[int, bool], int] = {}
    for index, (sku_name, pool_name, units) in named_first(lines):
        sku = sale.skus[sku_name]
        missing = units
        for is_from_buffer in (True, False):
            for pool in pools_for_late_money(sku, pool_name, is_from_buffer=is_from_buffer):
                key = (id(pool), is_from_buffer)
                there = buffer_of(pool) if is_from_buffer else pool.available
                given = min(missing, there - drawn.get(key, 0))
                if given > 0:
                    drawn[key] = drawn.get(key, 0) + given
                    parts.append(Part(index, sku, pool, given, 0, is_from_buffer))
                    missing -= given
        if missing:
            return None
    return sorted(parts, key=lambda part: part.line_index)
