"""The price file: the example is read, what is wrong is named, nothing wrong is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lastunit.prices.catalogue import CatalogueError, load, parse, plain
from lastunit.prices.quote import Part, Prices

EXAMPLE = Path(__file__).parents[3] / "docs" / "reference" / "prices.example.toml"
ITEM = {"sku": "a", "unit_amount_minor": 100}
LADDER = {"units_min": 2, "unit_amount_minor": 1}
STEP = {"threshold_minor": 1, "reduction_minor": 2}
WINDOW = {
    "from_time": "2026-11-11T00:00:00Z",
    "to_time": "2026-11-11T01:00:00Z",
    "unit_amount_minor": 1,
}


def document(**more: Any) -> dict[str, Any]:
    """Makes a small good document with something more."""
    return {"version": 1, "currency": "EUR", "items": [ITEM]} | more


def test_the_example_is_read_and_prices_an_order() -> None:
    """Three cases at 89.00 with the coupon's cap of 20.00, and a phone of the first step."""
    rules = Prices(load(EXAMPLE))
    cases = rules.total([Part(0, "case", 3, "main")], now_ms=0, coupon_id="CASE-10")
    phone = rules.total([Part(0, "phone", 1, "first-500")], now_ms=0)
    assert (cases.amount_minor, phone.amount_minor) == (24_700, 99_000)
    assert [gift.sku for gift in phone.gifts] == ["strap"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"version": 2}, "version"),
        ({"currency": "eur"}, "currency"),
        ({"colour": 1}, "colour"),
        ({"items": [ITEM | {"unit_amount_minor": 0}]}, "items.0.unit_amount_minor"),
        ({"items": [ITEM | {"unit_amount_minor": 1.5}]}, "items.0.unit_amount_minor"),
        ({"items": [ITEM | {"sku": "a b"}]}, "items.0.sku"),
        ({"items": [ITEM, ITEM]}, "sku a is there twice"),
        ({"items": [ITEM | {"windows": [WINDOW | {"to_time": WINDOW["from_time"]}]}]}, "before"),
        ({"items": [ITEM | {"windows": [WINDOW | {"to_time": "2027-01-01T00:00:00"}]}]}, "zone"),
        ({"items": [ITEM | {"tiers": [{"pool": "p", "unit_amount_minor": 1}] * 2}]}, "pool p"),
        (
            {"items": [ITEM | {"quantities": [{"units_min": 1, "unit_amount_minor": 1}]}]},
            "units_min",
        ),
        ({"gifts": [{"sku": "a"}]}, "sku a is there twice"),
        ({"gifts": [{"sku": "g", "skus": ["b"]}]}, "b is counted"),
        ({"reductions": [{"name": "r", "steps": []}]}, "reductions.0.steps"),
        (
            {
                "reductions": [
                    {"name": "r", "steps": [{"threshold_minor": 1, "reduction_minor": 2}]}
                ]
            },
            "reduction_minor must not be over",
        ),
        ({"coupons": [{"coupon_id": "c"}]}, "one of them"),
        ({"coupons": [{"coupon_id": "c", "per_mille": 1, "reduction_minor": 1}]}, "one of them"),
        ({"coupons": [{"coupon_id": "c", "reduction_minor": 1, "cap_minor": 1}]}, "cap_minor"),
        ({"coupons": [{"coupon_id": "a:b", "per_mille": 1}]}, "coupons.0.coupon_id"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], named: str) -> None:
    """One mistake at a time; the rest of the document is good."""
    assert parse(document(), "test")
    with pytest.raises(CatalogueError, match=named):
        parse(document(**more), "test")


@pytest.mark.parametrize("text", [None, "version = ", b"\xff"], ids=["none", "no TOML", "no UTF-8"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | bytes | None) -> None:
    """It is not there, is no TOML, or is no text."""
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CatalogueError, match=r"prices\.toml"):
        load(file)


def test_a_list_of_prices_is_checked_too() -> None:
    """As the flags of the command line give it."""
    with pytest.raises(CatalogueError, match="unit_amount_minor"):
        plain(by_sku={"a": 0})
    with pytest.raises(CatalogueError, match="default_unit_amount_minor"):
        plain(default_minor=-1)
    with pytest.raises(CatalogueError, match="currency"):
        plain(currency="yuan")
