"""Which kinds of providers there are, and how one is chosen: `KIND+URL`, and keys from outside.

Owns the names of the kinds and of the variables with their secrets. Must not know what a provider
does. A third kind is a class for `Provider`, one for `Dialect`, and a row here; see
docs/operating/providers.md. Next: `lastunit.payment.provider`, `lastunit.payment.dialect`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from lastunit.payment.dialect import OWN_DIALECT, Dialect
from lastunit.payment.http_provider import HttpProvider
from lastunit.payment.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KINDS",
    "OpenedProvider",
    "ProviderSpec",
    "open_dialect",
    "open_provider",
    "parse_spec",
    "variable_of",
]

KINDS: Final = ("http", "stripe")
"""`http` speaks our own form, as the sandbox does; `stripe` speaks Stripe's."""

KEY_VARIABLE: Final = "LASTUNIT_PROVIDER_KEY"
KEY_FILE_VARIABLE: Final = "LASTUNIT_PROVIDER_KEY_FILE"
RETURN_URL_VARIABLE: Final = "LASTUNIT_PROVIDER_RETURN_URL"

_KEY_BYTES_MAX: Final = 4_096
_SPEC: Final = re.compile(r"(?:([a-z]+)\+)?(https?://[^\s]+)")


class OpenedProvider(Provider, Protocol):
    """Is a provider that holds connections."""

    async def aclose(self) -> None:
        """Closes them."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """Says of which kind a provider is, and where.

    Attributes:
        kind: One of `KINDS`.
        url: Base address of its API.
    """

    kind: str
    url: str


def parse_spec(text: str) -> ProviderSpec:
    """Reads `KIND+URL`; a plain URL is of the kind `http`.

    Raises:
        ValueError: It is neither; the text says what would be right.
    """
    found = _SPEC.fullmatch(text)
    kind = (found[1] or "http") if found else ""
    if found is None or kind not in KINDS:
        raise ValueError(
            f"{text!r} is no provider; write http://host:port, or KIND+https://host with KIND one"
            f" of {', '.join(KINDS)}"
        )
    return ProviderSpec(kind, found[2])


def variable_of(variable: str, name: str) -> str:
    """Returns the variable of one provider: its name in capitals behind, `_` for other signs."""
    return f"{variable}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"


def open_provider(
    name: str, spec: ProviderSpec, environment: Mapping[str, str] | None = None
) -> OpenedProvider:
    """Returns the adapter of one provider.

    Args:
        name: Name of the provider in attempts and callbacks.
        spec: Kind and address.
        environment: Variables; the process's if None.

    Raises:
        ValueError: A key or an address that this kind needs is missing; says which variable.
    """
    variables = os.environ if environment is None else environment
    api_key = _key(name, variables)
    if spec.kind == "http":
        return HttpProvider(spec.url, name=name, api_key=api_key)
    # Only who uses Stripe needs its library.
    from lastunit.payment.stripe_provider import StripeProvider

    return_variable = variable_of(RETURN_URL_VARIABLE, name)
    return_url = variables.get(return_variable, "")
    if not api_key:
        raise ValueError(
            f"provider {name} has no key; set {variable_of(KEY_VARIABLE, name)}, or"
            f" {variable_of(KEY_FILE_VARIABLE, name)} to a file with it"
        )
    if not return_url:
        raise ValueError(f"set {return_variable} to where a buyer goes after paying at {name}")
    return StripeProvider(api_key, return_url=return_url, name=name, base_url=spec.url)


def open_dialect(kind: str) -> Dialect:
    """Returns how providers of a kind word their callbacks.

    Raises:
        ValueError: There is no such kind.
    """
    if kind == "http":
        return OWN_DIALECT
    if kind == "stripe":
        from lastunit.payment.stripe_dialect import StripeDialect

        return StripeDialect()
    raise ValueError(f"{kind!r} is no kind of provider; there are {', '.join(KINDS)}")


def _key(name: str, variables: Mapping[str, str]) -> str:
    """Returns the key of a provider, from its variable or its file; empty if it has none."""
    file = variables.get(variable_of(KEY_FILE_VARIABLE, name), "")
    if not file:
        return variables.get(variable_of(KEY_VARIABLE, name), "")
    try:
        with Path(file).open("rb") as opened:
            raw = opened.read(_KEY_BYTES_MAX + 1)
        key = raw.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the key of provider {name} can't be read from {file}") from error
    if not key or len(raw) > _KEY_BYTES_MAX:
        raise ValueError(f"{file} holds no key: 1 to {_KEY_BYTES_MAX} bytes are expected")
    return key
