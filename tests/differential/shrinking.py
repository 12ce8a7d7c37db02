"""Finds a small part of a history that still shows a difference.

Owns nothing but the search. Must not know what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .histories import Operation

__all__ = ["shrink"]


def shrink(
    history: Sequence[Operation], differs: Callable[[Sequence[Operation]], bool], *, tries: int
) -> list[Operation]:
    """Leaves out as much of a history as it can.

    Args:
        history: A history that differs.
        differs: Tells whether a part of it still does.
        tries: How many parts are tried at most.

    Returns:
        What is left; it differs still.
    """
    left = list(history)
    size = max(1, len(left) // 2)
    while size and tries:
        start = len(left) - size
        while start > -size and tries:
            part = left[: max(start, 0)] + left[start + size :]
            tries -= 1
            if part and differs(part):
                left = part
            start -= size
        size //= 2
    return left
