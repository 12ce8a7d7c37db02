"""The descriptors that server reflection answers from.

Owns one repair: Python's descriptor pool does not find the file of a method's name, which the
reflection protocol promises and ghz asks for (Source: grpc.reflection.v1alpha,
`file_containing_symbol`; tried with protobuf 7.36 and ghz 0.120). Both the ledger server and the
services use it. Must not know any service.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool

__all__ = ["ReflectionPool"]


class ReflectionPool:
    """Answers like the default descriptor pool, and knows methods by their full names too."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        """Passes every other look-up on to the default pool."""
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802 - the pool's own name
        """Returns the file that declares a symbol.

        Args:
            symbol: Full name of a message, enum, service, or method (`package.Service.Method`).

        Raises:
            KeyError: Nothing of that name is registered.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service_name, _, method_name = symbol.rpartition(".")
            service = self._pool.FindServiceByName(service_name)
            if method_name not in service.methods_by_name:
                raise
            return service.file
