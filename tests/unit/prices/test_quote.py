"""The lanes of a price: each rule by itself, together, and for random catalogues."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastunit.prices.catalogue import Catalogue, parse
from lastunit.prices.quote import Part, Prices, Refusal, RefusedError, Total

MONDAY_MS = 1_795_996_800_000  # 2026-11-30T00:00:00Z


def prices(**parts: Any) -> Prices:
    """Makes prices of a phone at 1,000 and a case at 100, both open to coupons."""
    items = [
        {"sku": "phone", "unit_amount_minor": 1_000, "is_coupon_allowed": True},
        {"sku": "case", "unit_amount_minor": 100, "is_coupon_allowed": True},
    ]
    items[0] |= parts.pop("phone", {})
    return Prices(parse({"version": 1, "currency": "EUR", "items": items, **parts}, "test"))


def total(rules: Prices, *parts: Part, now_ms: int = MONDAY_MS, coupon_id: str = "") -> Total:
    """Prices parts."""
    return rules.total(parts, now_ms=now_ms, coupon_id=coupon_id)


def phones(units: int, pool: str = "") -> Part:
    """Makes the first line."""
    return Part(0, "phone", units, pool)


def test_each_step_of_a_ladder_has_its_own_price() -> None:
    """The first pool at 990, the second at 1,090, any other at the list price."""
    tiers = [{"pool": "first", "unit_amount_minor": 990}, {"pool": "b", "unit_amount_minor": 1_090}]
    rules = prices(phone={"tiers": tiers})
    split_line = total(rules, phones(2, "first"), phones(1, "b"), phones(1, "rest"))
    assert [part.amount_minor for part in split_line.parts] == [1_980, 1_090, 1_000]
    assert rules.pools_at(phones(1), 1_090, units=1, now_ms=MONDAY_MS) == ["b"]
    assert rules.pools_at(phones(1), 1_091, units=1, now_ms=MONDAY_MS) == []
    assert rules.pools_at(phones(1, "rest"), 1_000, units=1, now_ms=MONDAY_MS) == ["rest"]


def test_a_limited_time_price_counts_from_its_first_second_to_before_its_last() -> None:
    """Half-open, and only where it is lower."""
    window = {
        "from_time": "2026-11-30T00:00:00Z",
        "to_time": "2026-11-30T01:00:00+00:00",
        "unit_amount_minor": 800,
    }
    dearer = window | {"unit_amount_minor": 1_200}
    rules = prices(phone={"windows": [window, dearer]})
    end_ms = MONDAY_MS + 3_600_000
    times = [MONDAY_MS - 1, MONDAY_MS, end_ms - 1, end_ms]
    amounts = [total(rules, phones(1), now_ms=time).amount_minor for time in times]
    assert amounts == [1_000, 800, 800, 1_000]


def test_the_number_of_units_counts_over_all_lines() -> None:
    """Two lines of one and two phones reach the price for three."""
    rules = prices(phone={"quantities": [{"units_min": 3, "unit_amount_minor": 900}]})
    assert total(rules, phones(2)).amount_minor == 2_000
    assert total(rules, phones(2), Part(1, "phone", 1)).amount_minor == 2_700


def test_the_best_full_reduction_is_split_over_what_it_counts() -> None:
    """The best step of the best reduction, and one that counts phones leaves cases alone."""
    steps = [{"threshold_minor": 900, "reduction_minor": 50}]
    more = [*steps, {"threshold_minor": 2_000, "reduction_minor": 301}]
    rules = prices(
        reductions=[
            {"name": "all", "steps": steps},
            {"name": "phones", "skus": ["phone"], "steps": more},
        ]
    )
    once = total(rules, phones(1), Part(1, "case", 1))
    assert (once.reduction_name, once.amount_minor) == ("all", 1_050)
    twice = total(rules, phones(1), Part(1, "phone", 1), Part(2, "case", 1))
    assert [part.reduction_minor for part in twice.parts] == [151, 150, 0]
    assert twice.reduction_name == "phones"


def test_a_coupon_works_on_what_the_reduction_left() -> None:
    """10 % of 2,000 - 500, at most 120; its stock is held under its own SKU."""
    rules = prices(
        reductions=[{"name": "all", "steps": [{"threshold_minor": 2_000, "reduction_minor": 500}]}],
        coupons=[
            {"coupon_id": "ten", "per_mille": 100},
            {"coupon_id": "capped", "per_mille": 100, "cap_minor": 120},
            {"coupon_id": "fixed", "reduction_minor": 70, "threshold_minor": 2_000},
        ],
    )
    seen = {name: total(rules, phones(2), coupon_id=name) for name in ("ten", "capped", "fixed")}
    assert {name: each.amount_minor for name, each in seen.items()} == {
        "ten": 1_350,
        "capped": 1_380,
        # The threshold is of item prices, not of what the reduction left.
        "fixed": 1_430,
    }
    assert seen["ten"].coupon_sku == "coupon:ten"


def test_a_coupon_that_cannot_be_used_is_refused_by_name() -> None:
    """Unknown, below its sum, or on goods that allow none."""
    coupons = [
        {"coupon_id": "much", "reduction_minor": 10, "threshold_minor": 5_000},
        {"coupon_id": "cases", "reduction_minor": 10, "skus": ["case"]},
    ]
    rules = prices(coupons=coupons)
    closed = prices(coupons=coupons, phone={"is_coupon_allowed": False})
    for refusal, each, name in [
        (Refusal.COUPON_UNKNOWN, rules, "none"),
        (Refusal.COUPON_NOT_USABLE, rules, "much"),
        (Refusal.COUPON_NOT_USABLE, rules, "cases"),
        (Refusal.COUPON_NOT_USABLE, closed, "much"),
    ]:
        with pytest.raises(RefusedError) as caught:
            total(each, phones(1), coupon_id=name)
        assert (caught.value.refusal, caught.value.sku) == (refusal, f"coupon:{name}")


def test_a_gift_is_given_from_its_sum_on() -> None:
    """Of the counted SKUs at their item prices."""
    rules = prices(gifts=[{"sku": "strap", "threshold_minor": 1_000, "skus": ["phone"]}])
    assert [gift.sku for gift in total(rules, phones(1)).gifts] == ["strap"]
    assert total(rules, Part(0, "case", 30)).gifts == ()


def test_an_order_never_costs_nothing() -> None:
    """A payment of 0 cannot be made, so the last minor unit stays."""
    rules = prices(coupons=[{"coupon_id": "all", "per_mille": 1_000}])
    assert total(rules, phones(1), coupon_id="all").amount_minor == 1


@pytest.mark.parametrize(
    ("units", "sku"), [(1, "table"), (1_000_000, "phone")], ids=["unknown", "too much"]
)
def test_what_has_no_price_is_refused(units: int, sku: str) -> None:
    """A SKU that is not in the catalogue, and a sum that no provider takes."""
    rules = prices(phone={"unit_amount_minor": 1_000_000_000_000})
    with pytest.raises(RefusedError) as caught:
        total(rules, Part(0, sku, units))
    assert caught.value.refusal is Refusal.UNKNOWN_PRICE


def test_the_bound_of_a_sum_does_not_depend_on_the_pools() -> None:
    """What is held because its cheapest step passes is never refused for the step it got."""
    dear = {"tiers": [{"pool": "dear", "unit_amount_minor": 1_000_000_000_000}]}
    rules = prices(phone=dear)
    for pool in ("", "dear", "cheap"):
        assert total(rules, phones(1_000, pool)).amount_minor > 0
        with pytest.raises(RefusedError):
            total(rules, phones(1_001, pool))


unit_amounts = st.integers(1, 10**6)
skus = st.sampled_from(["a", "b", "c"])


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    """Makes a catalogue of three SKUs in which every rule may occur."""
    items = [
        {
            "sku": sku,
            "unit_amount_minor": draw(unit_amounts),
            "is_coupon_allowed": draw(st.booleans()),
            "tiers": [
                {"pool": pool, "unit_amount_minor": draw(unit_amounts)}
                for pool in draw(st.sets(st.sampled_from("pq")))
            ],
            "quantities": [
                {"units_min": 2 + draw(st.integers(0, 9)), "unit_amount_minor": draw(unit_amounts)}
                for _ in range(draw(st.integers(0, 2)))
            ],
        }
        for sku in "abc"
    ]
    reductions = []
    for index in range(draw(st.integers(0, 3))):
        threshold = draw(unit_amounts)
        step = {"threshold_minor": threshold, "reduction_minor": draw(st.integers(1, threshold))}
        counted = sorted(draw(st.sets(skus)))
        reductions.append({"name": f"r{index}", "skus": counted, "steps": [step]})
    coupon: dict[str, Any] = {"coupon_id": "c", "skus": sorted(draw(st.sets(skus)))}
    if draw(st.booleans()):
        coupon["reduction_minor"] = draw(unit_amounts)
    else:
        coupon |= {"per_mille": draw(st.integers(1, 1_000)), "cap_minor": draw(unit_amounts)}
    return parse(
        {
            "version": 1,
            "currency": "EUR",
            "items": items,
            "reductions": reductions,
            "coupons": [coupon],
        },
        "test",
    )


part_lists = st.lists(
    st.builds(
        Part,
        line_index=st.integers(0, 31),
        sku=skus,
        units=st.integers(1, 100),
        pool=st.sampled_from(["p", "q", "r"]),
    ),
    min_size=1,
    max_size=8,
)


@given(catalogues(), part_lists, st.sampled_from(["", "c"]))
def test_discounts_of_the_lines_sum_to_the_discount_of_the_order(
    catalogue: Catalogue, parts: list[Part], coupon_id: str
) -> None:
    """Exactly, with no line below 0, for every rule that a catalogue may have."""
    rules = Prices(catalogue)
    try:
        found = rules.total(parts, now_ms=0, coupon_id=coupon_id)
    except RefusedError as error:
        assert error.refusal is Refusal.COUPON_NOT_USABLE  # noqa: PT017 - others must not come
        return
    assert [part.part for part in found.parts] == parts
    assert all(part.amount_minor >= 0 for part in found.parts)
    items = sum(part.item_amount_minor for part in found.parts)
    off = sum(part.reduction_minor + part.coupon_minor for part in found.parts)
    assert found.amount_minor == items - off >= 1
    steps = {r.name: r.steps[0].reduction_minor for r in catalogue.reductions}
    reduction = sum(part.reduction_minor for part in found.parts)
    assert reduction == min(steps.get(found.reduction_name, 0), max(items - 1, 0))
    without = rules.total(parts, now_ms=0)
    coupon = catalogue.coupons[0]
    if coupon_id and coupon.reduction_minor:
        taken = [
            part.amount_minor
            for part in without.parts
            if next(i for i in catalogue.items if i.sku == part.part.sku).is_coupon_allowed
            and (not coupon.skus or part.part.sku in coupon.skus)
        ]
        expected = min(coupon.reduction_minor, sum(taken), without.amount_minor - 1)
        assert without.amount_minor - found.amount_minor == expected


@given(catalogues(), part_lists)
def test_what_is_promised_before_the_pools_are_known_is_kept_after(
    catalogue: Catalogue, parts: list[Part]
) -> None:
    """An order whose coupon counts at the lowest prices keeps it whatever pools it gets."""
    rules = Prices(catalogue)
    unknown = [Part(part.line_index, part.sku, part.units) for part in parts]
    try:
        promised = rules.total(unknown, now_ms=0, coupon_id="c")
    except RefusedError:
        return
    kept = rules.total(parts, now_ms=0, coupon_id="c")
    assert kept.coupon_sku == promised.coupon_sku
    pairs = zip(kept.parts, promised.parts, strict=True)
    assert all(one.unit_amount_minor >= other.unit_amount_minor for one, other in pairs)
