"""A sale file is checked key by key before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastunit.run.sale import SaleFileError, load_sale, resized

EXAMPLE = Path(__file__).parents[2] / "examples" / "flash-sale.toml"
MINIMAL = '[sale]\nsale_id="s"\nsku="k"\nunit_amount_minor=1\n[[pool]]\npool="p"\nunits=1\n'


def test_the_example_is_the_sale_of_the_incident() -> None:
    """2,000 units in two pools, 20,000 buyers, ten minutes, a tenth of the time."""
    file = load_sale(EXAMPLE)

    assert file.units == 2_000
    assert file.buyers.count == 20_000
    assert file.sale.reservation_ttl_seconds == 600
    assert file.seconds(600) == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("[bogus]\n", "unknown table 'bogus'"),
        ("[run]\nspeed=1\n", "unknown key 'speed'"),
        ("[run]\ntime_scale=0.009\n", "time_scale is 0.009; it must be 0.01 to 10"),
        ("[run]\ntime_scale=10.1\n", "time_scale is 10.1; it must be 0.01 to 10"),
        ("[buyers]\ncount=0\n", "count is 0; it must be 1 to 100000"),
        ("[buyers]\ncount=100001\n", "count is 100001; it must be 1 to 100000"),
        ("[buyers]\ncount=1.5\n", "count must be a whole number"),
        ("[buyers]\ncount=true\n", "count must be a whole number"),
        ("[provider]\ncallback_loss=1.01\n", "callback_loss is 1.01; it must be 0 to 1"),
        ('[[pool]]\npool="p"\nunits=1\n', "two pools have the same name"),
        ('[[pool]]\npool="a b"\nunits=1\n', "pool must be 1 to 64 of"),
        ('[[pool]]\npool="q"\n', "key 'units' is missing"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(
    tmp_path: Path, change: str, message: str
) -> None:
    """The error has the file, the key and the range."""
    path = tmp_path / "sale.toml"
    path.write_text(MINIMAL + change, encoding="utf-8")

    with pytest.raises(SaleFileError) as caught:
        load_sale(path)

    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_missing_or_no_toml_is_named(tmp_path: Path) -> None:
    """Both are said in a sentence, without a traceback of the reader."""
    broken = tmp_path / "broken.toml"
    broken.write_text("[sale", encoding="utf-8")

    with pytest.raises(SaleFileError, match="cannot read"):
        load_sale(tmp_path / "missing.toml")
    with pytest.raises(SaleFileError, match="is no TOML"):
        load_sale(broken)


@pytest.mark.parametrize("units", [1, 2, 7, 1_999, 2_000, 5_000])
def test_other_numbers_of_units_are_shared_out_to_the_pools(units: int) -> None:
    """However many units are asked for, the pools have exactly as many."""
    file = resized(load_sale(EXAMPLE), buyers=None, units=units)

    assert file.units == units
    assert all(pool.units > 0 for pool in file.pools)


def test_fewer_buyers_keep_the_load_on_the_database() -> None:
    """A tenth of the buyers gets a tenth of the database."""
    file = resized(load_sale(EXAMPLE), buyers=2_000, units=None)

    assert file.run.order_transactions_per_second == pytest.approx(3.213)
