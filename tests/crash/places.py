"""Where and how a server's life ends in the crash rounds.

Owns the list of places, drawn by weight. Must not: judge what is left (`checks.py`). A place that
is armed and not reached within the load's time ends by SIGKILL like any other and is counted so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

# By a failpoint, at the n-th visit; the span of n. In the load, some visits after the start.
IN_LOAD = {
    "after_append_before_write": (20, 120),
    "after_write_before_sync": (25, 150),
    "after_sync_before_reply": (20, 120),
    "during_snapshot": (1, 2),
    "before_snapshot_rename": (1, 2),
    "before_segment_rename": (1, 2),
    "before_directory_sync": (1, 4),
    "before_removal": (1, 3),
}
# In the opening: before the server is ready.
IN_OPENING = {"during_opening": (1, 1), "after_write_before_sync": (1, 5)}


@dataclass(frozen=True)
class Ending:
    """How one life ends.

    `place` is for the record. `failpoint` is armed from the start. `load_seconds` is when a signal
    comes at the latest; `grace_seconds` turns it into SIGTERM, followed by SIGKILL after so long,
    or, with `waits_for_end`, only if it has not ended by itself.
    `openings` are failpoints of lives before this one that end in their opening.
    """

    place: str
    load_seconds: float
    failpoint: str = ""
    grace_seconds: float | None = None
    openings: tuple[str, ...] = ()
    waits_for_end: bool = False


def choose(chooser: random.Random, number: int) -> Ending:
    """Chooses how the life with this number ends; every place comes up again and again."""
    seconds = chooser.uniform(0.05, 0.6)
    names = [*IN_LOAD]
    # Half of the lives end at a named place, one after the other.
    if number % 2 == 0:
        name = names[number // 2 % len(names)]
        return Ending(name, 1.5, failpoint=_armed(chooser, name, IN_LOAD))
    match number // 2 % 6:
        case 0:
            return Ending("in_opening", seconds, openings=(_opening(chooser),))
        case 1:
            twice = (_opening(chooser), _opening(chooser))
            return Ending("twice_in_opening", seconds, openings=twice)
        case 2:
            return Ending("soon_after_ready", chooser.uniform(0, 0.02))
        case 3:
            return Ending("in_stop", seconds, grace_seconds=chooser.uniform(0, 0.25))
        case _:
            return Ending("random", seconds)


def _opening(chooser: random.Random) -> str:
    return _armed(chooser, chooser.choice([*IN_OPENING]), IN_OPENING)


def _armed(chooser: random.Random, name: str, spans: dict[str, tuple[int, int]]) -> str:
    return f"{name}:{chooser.randint(*spans[name])}"
