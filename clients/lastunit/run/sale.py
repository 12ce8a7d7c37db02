"""Reads a sale from a TOML file and checks it.

Owns the names, units and ranges of the file. Must not talk to any service.
Next: ``job.py`` runs the sale; ``examples/flash-sale.toml`` shows every key.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path  # noqa: TC003 - part of a signature that is shown in errors
from typing import Any, Final

__all__ = ["Buyers", "Pool", "Provider", "Run", "Sale", "SaleFile", "SaleFileError", "load_sale"]

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)

BUYERS_MAX: Final = 100_000
POOLS_MAX: Final = 32
UNITS_MAX: Final = 1_000_000
SPAN_SECONDS_MAX: Final = 86_400.0


class SaleFileError(Exception):
    """The file cannot be read or a key is missing, unknown or out of range."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sale:
    """What is sold, and under which policy.

    Attributes:
        sale_id: Name of the sale.
        sku: What is sold.
        unit_amount_minor: Price of a unit in minor units.
        currency: ISO 4217.
        reservation_ttl_seconds: Sale seconds an unpaid reservation lives.
        settle_by_seconds: Sale seconds after which an open payment is asked for.
        retry_grace_seconds: Sale seconds a buyer has after a failed payment.
        max_life_seconds: Sale seconds an unpaid reservation lives at most.
        units_per_person_max: Units one person may have; 0 for no limit.
    """

    sale_id: str
    sku: str
    unit_amount_minor: int
    currency: str = "CNY"
    reservation_ttl_seconds: float = 600.0
    settle_by_seconds: float = 900.0
    retry_grace_seconds: float = 120.0
    max_life_seconds: float = 1_800.0
    units_per_person_max: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """A named share of the units."""

    pool: str
    units: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Buyers:
    """Who comes, and what they do.

    Attributes:
        count: Buyers, each with an account of their own.
        views_per_buyer: Presses of "buy" at most.
        arrival_seconds: Sale seconds within which all press for the first time.
        think_seconds: A refused buyer presses again after one to two times this.
        pay_mean_seconds: Mean sale seconds from the order to the payment.
        pay_probability: Share of buyers with a unit who pay.
    """

    count: int = 20_000
    views_per_buyer: int = 10
    arrival_seconds: float = 10.0
    think_seconds: float = 120.0
    pay_mean_seconds: float = 45.0
    pay_probability: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provider:
    """What the payment sandbox does with its callbacks.

    Attributes:
        callback_delay_seconds: Sale seconds between a payment and its callback.
        callback_loss: Share of callbacks never sent.
        callback_duplicate: Share of callbacks sent twice.
    """

    callback_delay_seconds: float = 1.0
    callback_loss: float = 0.0
    callback_duplicate: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """How the sale is run.

    Attributes:
        time_scale: Wall-clock seconds that one sale second takes.
        order_transactions_per_second: Rate of the order database per sale second.
        seed: Random seed of buyers and faults.
    """

    time_scale: float = 0.1
    order_transactions_per_second: float = 32.13
    seed: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SaleFile:
    """Everything the file says."""

    sale: Sale
    pools: tuple[Pool, ...]
    buyers: Buyers
    provider: Provider
    run: Run

    @property
    def units(self) -> int:
        """Units of all pools."""
        return sum(each.units for each in self.pools)

    def seconds(self, sale_seconds: float) -> float:
        """Converts seconds of the sale to seconds of this machine."""
        return sale_seconds * self.run.time_scale


_RANGES: Final[dict[str, tuple[float, float]]] = {
    "unit_amount_minor": (1, 1_000_000_000_000),
    "reservation_ttl_seconds": (1, SPAN_SECONDS_MAX),
    "settle_by_seconds": (1, SPAN_SECONDS_MAX),
    "retry_grace_seconds": (0, SPAN_SECONDS_MAX),
    "max_life_seconds": (1, SPAN_SECONDS_MAX),
    "units_per_person_max": (0, UNITS_MAX),
    "units": (1, UNITS_MAX),
    "count": (1, BUYERS_MAX),
    "views_per_buyer": (1, 1_000),
    "arrival_seconds": (0, SPAN_SECONDS_MAX),
    "think_seconds": (0, SPAN_SECONDS_MAX),
    "pay_mean_seconds": (0.001, SPAN_SECONDS_MAX),
    "pay_probability": (0, 1),
    "callback_delay_seconds": (0, SPAN_SECONDS_MAX),
    "callback_loss": (0, 1),
    "callback_duplicate": (0, 1),
    "time_scale": (0.01, 10),
    "order_transactions_per_second": (0.1, 100_000),
    "seed": (0, 2**63 - 1),
}


def load_sale(path: Path) -> SaleFile:
    """Reads a sale file.

    Raises:
        SaleFileError: Naming the file, the key and what is allowed.
    """
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise SaleFileError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise SaleFileError(f"{path} is no TOML: {error}") from error
    unknown = content.keys() - {"sale", "pool", "buyers", "provider", "run"}
    if unknown:
        raise SaleFileError(f"{path}: unknown table {min(unknown)!r}")
    pools = content.get("pool", [])
    if not isinstance(pools, list) or not 1 <= len(pools) <= POOLS_MAX:
        raise SaleFileError(f"{path}: [[pool]] must appear 1 to {POOLS_MAX} times")
    found = SaleFile(
        sale=_read(Sale, content.get("sale", {}), f"{path}: [sale]"),
        pools=tuple(_read(Pool, each, f"{path}: [[pool]]") for each in pools),
        buyers=_read(Buyers, content.get("buyers", {}), f"{path}: [buyers]"),
        provider=_read(Provider, content.get("provider", {}), f"{path}: [provider]"),
        run=_read(Run, content.get("run", {}), f"{path}: [run]"),
    )
    names = [each.pool for each in found.pools]
    if len(set(names)) != len(names):
        raise SaleFileError(f"{path}: two pools have the same name")
    return found


def resized(file: SaleFile, *, buyers: int | None, units: int | None) -> SaleFile:
    """Gives the sale with other numbers of buyers and units, at the same load on the database.

    Args:
        file: The sale to start from.
        buyers: Buyers instead of the file's, or ``None``.
        units: Units instead of the file's, shared out to the pools as the file does.

    Raises:
        SaleFileError: A number is out of range.
    """
    if buyers is not None:
        _check("buyers", "count", buyers)
        rate = file.run.order_transactions_per_second * buyers / file.buyers.count
        run = dataclasses.replace(file.run, order_transactions_per_second=max(rate, 1.0))
        file = dataclasses.replace(
            file, buyers=dataclasses.replace(file.buyers, count=buyers), run=run
        )
    if units is None:
        return file
    _check("pools", "units", units)
    total, left, pools = file.units, units, []
    for index, pool in enumerate(file.pools):
        is_last = index == len(file.pools) - 1
        share = left if is_last else min(left, round(units * pool.units / total))
        left -= share
        if share > 0:
            pools.append(dataclasses.replace(pool, units=share))
    return dataclasses.replace(file, pools=tuple(pools))


def _read(kind: Any, table: object, place: str) -> Any:
    """Builds a dataclass from a table and checks every key."""
    if not isinstance(table, dict):
        raise SaleFileError(f"{place} must be a table")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            raise SaleFileError(f"{place}: unknown key {key!r}; known are {', '.join(fields)}")
        table[key] = _typed(place, key, value, str(fields[key].type))
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in table:
            raise SaleFileError(f"{place}: key {key!r} is missing")
    return kind(**table)


def _typed(place: str, key: str, value: object, kind: str) -> object:
    if kind == "str":
        if not isinstance(value, str) or not ID_PATTERN.fullmatch(value):
            raise SaleFileError(f"{place}: {key} must be 1 to 64 of [A-Za-z0-9._:-]")
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or (kind == "int" and not isinstance(value, int)):
        raise SaleFileError(f"{place}: {key} must be {'a whole' if kind == 'int' else 'a'} number")
    _check(place, key, value)
    return value


def _check(place: str, key: str, value: Any) -> None:
    least, most = _RANGES[key]
    if not least <= value <= most:
        raise SaleFileError(f"{place}: {key} is {value}; it must be {least:g} to {most:g}")
