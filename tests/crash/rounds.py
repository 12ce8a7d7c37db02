"""Rounds of kill -9 under load: `python -m tests.crash.rounds --rounds 1000 --seed 1`.

Owns the command line, the sum over all rounds and its record. A round is one life of the real
server on real files under the load of six clients, ended by SIGKILL at a random moment or by an
abort at a named place. What is checked after each is listed in `checks.py`; exit status 1 if
anything was found, and the directory is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crash.calls import CHANGING
from tests.crash.child import ROOT
from tests.crash.places import choose
from tests.crash.station import Station

# Then a fresh directory: what is compared grows with each life.
LIVES_PER_DIRECTORY = 40
RESULTS = ROOT / "bench" / "results"
FOUND = ("lost", "doubled", "leaked", "undone", "wrong")


@dataclass
class Total:
    """What all rounds came to."""

    round_count: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused_count: int = 0
    unknown_count: int = 0
    repeat_count: int = 0
    event_count: int = 0
    timer_event_count: int = 0
    opening_count: int = 0
    found: Counter[str] = field(default_factory=Counter)

    def add(self, station: Station) -> None:
        """Adds a directory that is done with."""
        self.kills.update(station.kills)
        for client in station.clients.values():
            self.acknowledged.update(client.kinds)
            self.refused_count += sum(client.outcomes.values()) - client.outcomes[1]
            self.unknown_count += client.unknown_count
            self.repeat_count += client.repeat_count
        self.event_count += station.view.sequence
        self.timer_event_count += station.view.timer_count
        self.opening_count += station.view.opening_count

    def facts(self) -> dict[str, Any]:
        """Returns it as JSON knows it."""
        return {
            "rounds": self.round_count,
            "kill_count": sum(self.kills.values()) - self.kills["clean_stop"],
            "kills": dict(sorted(self.kills.items())),
            "opening_count": self.opening_count,
            "acknowledged_count": sum(self.acknowledged.values()),
            "acknowledged": {kind: self.acknowledged[kind] for kind in CHANGING},
            "refused_count": self.refused_count,
            "unknown_answer_count": self.unknown_count,
            "repeated_count": self.repeat_count,
            "event_count": self.event_count,
            "timer_event_count": self.timer_event_count,
            **{kind: self.found[kind] for kind in FOUND},
        }


class Rounds:
    """The loop over directories and lives."""

    def __init__(self, *, round_count: int, seed: int, folder: Path, is_quiet: bool) -> None:
        self.round_count = round_count
        self.seed = seed
        self.folder = folder
        self.total = Total()
        self.is_quiet = is_quiet
        self._random = random.Random(seed)
        self._start = time.monotonic()

    def run(self) -> bool:
        """Runs all rounds; returns whether nothing was found. Stops at the first finding."""
        number = 0
        while self.total.round_count < self.round_count:
            number += 1
            directory = self.folder / f"directory-{number}" / "data"
            directory.parent.mkdir()
            # Each third directory has the settings that servers start with.
            station = Station(directory, seed=self.seed + number, is_small=number % 3 != 0)
            is_well = self._lives(station)
            self.total.add(station)
            if not is_well:
                return False
            shutil.rmtree(directory.parent)
        return True

    def _lives(self, station: Station) -> bool:
        for _ in range(min(LIVES_PER_DIRECTORY, self.round_count - self.total.round_count)):
            station.live(choose(self._random, self.total.round_count))
            self.total.round_count += 1
            self._report(station)
            if station.problems:
                return self._found(station)
        station.finish()
        return not station.problems or self._found(station)

    def _report(self, station: Station) -> None:
        count = self.total.round_count
        if self.is_quiet or (count % 10 and count != self.round_count):
            return
        seconds = time.monotonic() - self._start
        say(
            f"round {count} of {self.round_count}, {seconds:.0f} s, journal at"
            f" {station.view.sequence}, {station.view.opening_count} openings, nothing found"
        )

    def _found(self, station: Station) -> bool:
        self.total.found.update(kind for kind, _ in station.problems)
        for kind, text in station.problems[:20]:
            say(f"{kind.upper()}: {text}")
        say(
            f"round {self.total.round_count} of seed {self.seed}; the journal is kept in"
            f" {station.directory}, the server's log beside it"
        )
        return False

    def record(self) -> dict[str, Any]:
        """Returns what the run came to, with what it was run on."""
        return {
            "command": f"make crash ARGS='--rounds {self.round_count} --seed {self.seed}'",
            **machine_facts(),
            "seed": self.seed,
            "seconds": round(time.monotonic() - self._start, 1),
            **self.total.facts(),
        }


def machine_facts() -> dict[str, Any]:
    """Returns what a record has to say of where it was made."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return {
        "commit": commit.strip(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "kernel": platform.release()},
    }


def say(text: str) -> None:
    """Tells the person who waits."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="lives that end by a kill")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.add_argument("--save", type=Path, help=f"a file for the record, as in {RESULTS.name}/")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="lastunit-crash-"))
    say(f"seed {options.seed}, {options.rounds} rounds in {folder}")
    rounds = Rounds(
        round_count=options.rounds, seed=options.seed, folder=folder, is_quiet=options.json
    )
    is_well = rounds.run()
    record = rounds.record()
    if options.save:
        options.save.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record) if options.json else _summary(record))  # noqa: T201 - the result
    if is_well:
        shutil.rmtree(folder)
    return 0 if is_well else 1


def _summary(record: dict[str, Any]) -> str:
    kills = ", ".join(f"{place} {count}" for place, count in record["kills"].items())
    found = ", ".join(f"{record[kind]} {kind}" for kind in FOUND)
    return (
        f"{record['rounds']} rounds, {record['kill_count']} kills in {record['seconds']} s:"
        f" {kills}\n"
        f"{record['acknowledged_count']} operations acknowledged, {record['unknown_answer_count']}"
        f" whose answer did not come at first, {record['repeated_count']} sent again\n{found}"
    )


if __name__ == "__main__":
    sys.exit(main())
