"""What a client remembers of the ledger: the highest place it was told.

Owns the memory and the metadata that carries it. Must not judge: the server refuses if it is
behind. Next: `lastunit.client._status` for that refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lastunit.client.security import ClientSecurity
    from lastunit.stock.v1 import place_pb2

__all__ = ["Seen"]

CALLER_KEY: Final = "lastunit-caller"
SEQUENCE_KEY: Final = "lastunit-seen-sequence"
EPOCH_KEY: Final = "lastunit-seen-epoch"


class Seen:
    """Keeps the highest sequence and epoch of one ledger; both listeners share it.

    Args:
        caller: Name that admission knows this client under; empty: none is sent.
        security: Adds what proves the name.

    Attributes:
        sequence: Highest sequence that a reply showed; 0 at first.
        epoch: Highest epoch that a reply showed; 0 at first.
    """

    def __init__(self, caller: str, security: ClientSecurity) -> None:
        self._caller = caller
        self._security = security
        self.sequence = 0
        self.epoch = 0

    def note(self, place: place_pb2.Place) -> None:
        """Takes in the place of one reply."""
        self.sequence = max(self.sequence, place.as_of_sequence)
        self.epoch = max(self.epoch, place.epoch)

    def forget(self) -> None:
        """Accepts whatever the ledger shows next, even if it has lost what it told."""
        self.sequence = 0
        self.epoch = 0

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what a call carries: who calls and what they have seen."""
        pairs: list[tuple[str, str]] = list(self._security.metadata())
        if self._caller:
            pairs.append((CALLER_KEY, self._caller))
        if self.sequence:
            pairs.append((SEQUENCE_KEY, str(self.sequence)))
        if self.epoch:
            pairs.append((EPOCH_KEY, str(self.epoch)))
        return tuple(pairs)
