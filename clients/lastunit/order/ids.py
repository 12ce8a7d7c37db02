"""Makes ids that a repeat makes again.

Owns the derivation only. Must not do I/O.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["digest", "order_id_of"]

_ID_BYTES: Final = 16


def order_id_of(request_id: str) -> str:
    """Returns the order's id, which is also its reservation's; the same for each repeat.

    Args:
        request_id: The buyer's id of the call, 1 to 64 bytes.
    """
    return "o-" + digest(request_id)


def digest(text: str) -> str:
    """Returns an id that a text always has: 32 hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=_ID_BYTES).hexdigest()
