"""Reserve: units for a person, all lines or nothing.

Owns rows 1 and 2 of the reservation's life. Must not look at payments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.reference import levels, limits, pools
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import Reservation
from lastunit.reference.words import optional_millis
from lastunit.stock.v1 import outcome_pb2, reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Part, Sale

__all__ = ["refuse_by_sale", "reserve", "taken_of"]

Line = tuple[str, str, int]

# 30 days; how far ahead a claim may be made in a sale that forgets while it is open.
NOT_AFTER_AHEAD_MAX = 2_592_000_000


def reserve(ledger: Ledger, request: Any) -> Answer:
    """Holds units for a person."""
    lines = [(line.sku, line.pool, line.units) for line in request.lines]
    ttl = optional_millis(request, "ttl")
    known = ledger.reservations.get(request.reservation_id)
    if known is not None:
        return repeat(ledger, request, known, lines, ttl)
    sale = ledger.sales.get(request.sale_id)
    if sale is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    refusal = (
        refuse_unknown(sale, lines)
        or refuse_by_time(ledger, request)
        or refuse_by_sale(ledger, sale)
        or refuse_open_end(ledger, request, sale)
        or refuse_not_offered(sale, lines)
        or refuse_by_limit(ledger, sale, request.person_id, lines)
    )
    if refusal:
        return name_sku(refusal, sale, lines)
    parts, lacking = pools.draw(sale, lines)
    if lacking:
        return refused(outcome_pb2.OUTCOME_SOLD_OUT, **levels.told(lacking, ledger.now))
    return hold(ledger, request, sale, lines=lines, ttl=ttl, parts=parts)


def repeat(
    ledger: Ledger, request: Any, known: Reservation, lines: list[Line], ttl: int | None
) -> Answer:
    """Gives the first answer again, or names the field that differs; `not_after` may differ."""
    not_after = optional_millis(request, "not_after_time")
    is_compared = known.sale.policy.does_forget_while_open and known.not_after is not None
    differing = (
        ("sale_id", request.sale_id == known.sale.sale_id),
        ("person_id", request.person_id == known.person_id),
        (path_of_difference(known.lines, lines), lines == known.lines),
        ("ttl", ttl == known.ttl),
        ("not_after_time", not is_compared or not_after == known.not_after),
    )
    for field, is_equal in differing:
        if not is_equal:
            return refused(outcome_pb2.OUTCOME_CONFLICT, known, conflict_field=field)
    first = known.first_answer
    return ledger.again(known.create_sequence, known, expire_time=first[0], taken=first[1])


def name_sku(refusal: Answer, sale: Sale, lines: list[Line]) -> Answer:
    """Tells the level of the sku that refused; of the first line's if none did by itself."""
    refusal.result.setdefault("sku", lines[0][0])
    sku = sale.skus.get(refusal.result["sku"])
    if sku is not None:
        refusal.result.update(levels.named(sku))
    return refusal


def path_of_difference(first: list[Line], now: list[Line]) -> str:
    """Returns the first field of the lines that differs."""
    if len(first) == len(now):
        for index, (old, new) in enumerate(zip(first, now, strict=True)):
            for place, name in enumerate(("sku", "pool", "units")):
                if old[place] != new[place]:
                    return f"lines[{index}].{name}"
    return "lines"


def refuse_unknown(sale: Sale, lines: list[Line]) -> Answer | None:
    """Refuses a sku or pool that the sale does not have; skus come first."""
    for sku_name, _, _ in lines:
        if sku_name not in sale.skus:
            return refused(outcome_pb2.OUTCOME_UNKNOWN_SKU, sku=sku_name)
    for sku_name, pool_name, _ in lines:
        if pool_name and sale.skus[sku_name].pool(pool_name) is None:
            return refused(outcome_pb2.OUTCOME_UNKNOWN_POOL, sku=sku_name)
    return None


def refuse_by_time(ledger: Ledger, request: Any) -> Answer | None:
    """Refuses a late copy of a request."""
    not_after = optional_millis(request, "not_after_time")
    if not_after is not None and ledger.now > not_after:
        return refused(outcome_pb2.OUTCOME_TOO_LATE)
    return None


def refuse_by_sale(ledger: Ledger, sale: Sale) -> Answer | None:
    """Refuses what only an open sale gives: not now, or never again."""
    state = ledger.sale_state(sale)
    if state == sale_pb2.SALE_STATE_OPEN:
        return None
    if state == sale_pb2.SALE_STATE_SCHEDULED:
        return refused(outcome_pb2.OUTCOME_SALE_NOT_OPEN, come_back_time=sale.opens)
    if state == sale_pb2.SALE_STATE_PAUSED:
        return refused(outcome_pb2.OUTCOME_SALE_NOT_OPEN)
    return refused(outcome_pb2.OUTCOME_SALE_CLOSED)


def refuse_open_end(ledger: Ledger, request: Any, sale: Sale) -> Answer | None:
    """Refuses a claim whose late copy would be taken for a new one, once it is forgotten."""
    policy = sale.policy
    if not policy.does_forget_while_open:
        return None
    not_after = optional_millis(request, "not_after_time")
    ahead = min(policy.forget_after, NOT_AFTER_AHEAD_MAX)
    if not_after is None or not_after > ledger.now + ahead:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="not_after_time")
    return None


def refuse_not_offered(sale: Sale, lines: list[Line]) -> Answer | None:
    """Refuses a named pool that Reserve may not draw on."""
    for sku_name, pool_name, _ in lines:
        pool = sale.skus[sku_name].pool(pool_name) if pool_name else None
        if pool is not None and not pool.is_offered:
            return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, sku=sku_name, limit="is_offered")
    return None


def refuse_by_limit(ledger: Ledger, sale: Sale, person_id: str, lines: list[Line]) -> Answer | None:
    """Refuses what would take the person past a limit, and names the limit."""
    limit, sku_name = limits.passed_limit(ledger, sale, person_id, lines)
    if not limit:
        return None
    told = {"sku": sku_name} if sku_name else {}
    return refused(outcome_pb2.OUTCOME_LIMIT_REACHED, limit=limit, **told)


def hold(
    ledger: Ledger,
    request: Any,
    sale: Sale,
    *,
    lines: list[Line],
    ttl: int | None,
    parts: list[Part],
) -> Answer:
    """Makes the reservation: available becomes held, and the clock is set."""
    now = ledger.now
    policy = sale.policy
    span = policy.reservation_ttl if ttl is None else min(ttl, policy.reservation_ttl)
    max_life = now + policy.max_life
    taken = taken_of(parts)
    not_after = optional_millis(request, "not_after_time")
    reservation = Reservation(
        reservation_id=request.reservation_id,
        number=ledger.take_place(),
        sale=sale,
        person_id=request.person_id,
        lines=lines,
        ttl=ttl,
        state=reservation_pb2.STATE_HELD,
        parts=parts,
        created=now,
        create_sequence=ledger.sequence + 1,
        expires=min(now + span, max_life),
        max_life=max_life,
        first_answer=(min(now + span, max_life), taken),
        not_after=not_after,
    )
    pools.take(parts, "held")
    ledger.reservations[reservation.reservation_id] = reservation
    sale.reservations.append(reservation)
    limits.counted(ledger, reservation).append(reservation)
    ledger.touch(reservation)
    ledger.watch_hold(reservation)
    ledger.record(
        "reserved",
        reservation,
        state_from=0,
        person_id=reservation.person_id,
        lines=lines,
        taken=taken,
        ttl=ttl,
        not_after_time=not_after,
        expire_time=reservation.expires,
        max_life_time=max_life,
    )
    return done(reservation, expire_time=reservation.expires, taken=taken)


def taken_of(parts: list[Part]) -> tuple[tuple[int, str, str, int, bool], ...]:
    """Returns parts as replies and events tell them: line, sku, pool, units, from the buffer."""
    return tuple(
        (part.line_index, part.sku.name, part.pool.name, part.units, part.is_from_buffer)
        for part in parts
    )
