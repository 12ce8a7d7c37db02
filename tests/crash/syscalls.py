"""Each N-th system call on the journal's files fails: `python -m tests.crash.syscalls`.

Owns the loop over N and over kinds of failure, against the real server under calls of one client.
After the first error the client must never get an OK, health must say so, the files must not be
touched any more, and the process must leave with status 4; a server that is not up yet must refuse
with status 3 and a text. Then the server is started again without faults, and everything that was
acknowledged is accounted for as after a kill (`checks.py`).
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.crash import checks
from tests.crash.child import DEATHS, Child, start
from tests.crash.client import Client, Connection
from tests.crash.places import Ending
from tests.crash.rounds import machine_facts, say
from tests.crash.shim import CHANGES, LOOKS, Fault, environment
from tests.crash.station import Station

OPERATIONS = 200
# How often a sweep of many minutes says where it is.
TELL_SECONDS = 30.0
# Which calls can fail in which way.
KINDS: dict[str, tuple[str, ...]] = {
    "eio": (*CHANGES, *LOOKS),
    "enospc": ("create", "pwrite", "fdatasync", "fsync", "rename"),
    "short": ("pwrite",),
    "kill": CHANGES,
}
NOT_STARTED, JOURNAL_FAILED = 3, 4
TRIES_AFTER = 3
WORKERS = 2
HEALTH_SECONDS = 10.0
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def prepare(folder: Path, seed: int) -> Station:
    """Makes a small journal of a server that was killed, so that an opening has work to do."""
    station = Station(folder / "base", seed=seed, is_small=True, client_count=1)
    station.live(Ending("random", 0.3))
    assert not station.problems, station.problems
    return station


@dataclass
class Trial:
    """One fault, on a copy of the prepared journal."""

    station: Station
    fault: Fault
    log: Path
    result: str = ""

    def run(self) -> Trial:
        """Runs the server into the fault, then without it; notes what came of it."""
        child = start(
            self.station.directory,
            self.station.flags,
            environment(self.station.directory, fault=self.fault, log=self.log),
        )
        if child.wait_ready():
            self.result = self._serve(child)
        else:
            self.result = self._refused(child)
        if not self._is_reached():
            self.result = "not reached"
        self._check_log()
        self.station.check_at_rest()
        self.station.finish()
        return self

    def _refused(self, child: Child) -> str:
        status = child.wait()
        if status in DEATHS:
            return "killed in the opening"
        text = child.log.read_text().strip().splitlines()[-1:]
        if status != NOT_STARTED or not text or "Traceback" in text[0]:
            self.station.problem("wrong", f"left with {status} at the start, saying {text}")
        return "refused to start"

    def _serve(self, child: Child) -> str:
        connection = Connection(child.ready)
        [client] = self.station.clients.values()
        is_failed = not self._work(client, connection)
        result = "went on"
        if is_failed and child.is_alive() and self.fault.kind != "kill":
            self._check_stopped(client, connection)
            result = "stopped"
        connection.close()
        child.ask_to_stop()
        status = child.wait()
        if status in DEATHS:
            return "killed"
        if status not in ({JOURNAL_FAILED} if is_failed else {0, JOURNAL_FAILED}):
            self.station.problem("wrong", f"left with {status}: {self.fault}")
        return "stopped at the end" if status and not is_failed else result

    def _work(self, client: Client, connection: Connection) -> bool:
        """Sends operations until enough are answered; False at the first failure."""
        if not checks.resolve(client, connection):
            return False
        goal = sum(client.outcomes.values()) + OPERATIONS
        while sum(client.outcomes.values()) < goal:
            if not client.send(connection, client.plan()):
                return False
        return True

    def _check_stopped(self, client: Client, connection: Connection) -> None:
        """After the first error nothing is acknowledged, whoever asks."""
        known = len(client.unknown), sum(client.outcomes.values())
        for _ in range(TRIES_AFTER):
            if client.send(connection, client.plan()):
                self.station.problem("wrong", f"an OK after the first error: {self.fault}")
        if sum(client.outcomes.values()) != known[1]:
            self.station.problem("wrong", f"an answer after the first error: {self.fault}")
        stub = health_pb2_grpc.HealthStub(connection.data)
        end = time.monotonic() + HEALTH_SECONDS
        while stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status != NOT_SERVING:
            if time.monotonic() > end:
                self.station.problem("wrong", f"health says nothing of {self.fault}")
                return
            time.sleep(0.02)

    def _lines(self) -> list[list[str]]:
        # Number, call, file, thread, and the fault where it was met.
        return [line.split() for line in self.log.read_text().splitlines()]

    def _is_reached(self) -> bool:
        return any(len(line) > 4 for line in self._lines())

    def _check_log(self) -> None:
        """A journal that has failed is not touched again, unless only room ahead was wanted."""
        lines = self._lines()
        met = next((index for index, line in enumerate(lines) if len(line) > 4), None)
        if met is None or self.result in {"refused to start", "went on"}:
            is_about_room = met is not None and self.result == "went on"
            if is_about_room and not may_go_on(lines[met], self.fault):
                self.station.problem("wrong", f"went on after {lines[met]}")
            return
        later = [line for line in lines[met + 1 :] if line[1] in CHANGES]
        threads = [line[3] for line in later]
        # The call that another thread was about to make is made; nothing after it.
        is_touched = lines[met][3] in threads or len(threads) > len(set(threads))
        if is_touched and self.fault.kind != "kill":
            self.station.problem("wrong", f"after {lines[met]} came {later}")


def may_go_on(line: list[str], fault: Fault) -> bool:
    """Tells whether a server may live with a failure: a full disk ahead of need, or a look."""
    name, call = line[2], line[1]
    is_ahead = name.endswith(".temporary") or call in {"create", "rename"} or name == "."
    return (fault.kind == "enospc" and is_ahead) or call in LOOKS or call == "unlink"


class Sweep:
    """All numbers of one kind of failure."""

    def __init__(self, *, seed: int, step: int, folder: Path) -> None:
        self.folder = folder
        self.step = step
        self.base = prepare(folder, seed)
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._told = time.monotonic()

    def run(self, kind: str) -> None:
        """Tries every N until the run ends before it is reached."""
        with ThreadPoolExecutor(WORKERS) as pool:
            at = 1
            while True:
                numbers = [at + index * self.step for index in range(WORKERS)]
                trials = list(pool.map(lambda number: self.trial(kind, number).run(), numbers))
                for trial in trials:
                    self._note(kind, trial)
                if time.monotonic() - self._told > TELL_SECONDS:
                    self._told = time.monotonic()
                    say(f"{kind}: call {at + self.step * WORKERS}, {len(self.problems)} found")
                if any(trial.result == "not reached" for trial in trials):
                    return
                at += self.step * WORKERS

    def trial(self, kind: str, at: int) -> Trial:
        """Makes the trial with a number: a copy of the files, and of the client's memory."""
        station = copy.deepcopy(self.base)
        station.directory = self.folder / f"{kind}-{at}" / "data"
        shutil.copytree(self.base.directory, station.directory)
        return Trial(station, Fault(kind, at, KINDS[kind]), station.directory.parent / "calls")

    def _note(self, kind: str, trial: Trial) -> None:
        self.counts[f"{kind}: {trial.result}"] += 1
        for found, text in trial.station.problems:
            self.problems.append(f"{found} at {trial.fault}: {text}")
            say(self.problems[-1])
        if not trial.station.problems:
            shutil.rmtree(trial.station.directory.parent)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--step", type=int, default=1, help="tries each so many-th call")
    parser.add_argument("--kind", choices=[*KINDS], action="append", help="only this kind")
    parser.add_argument("--json", action="store_true", help="print the record as JSON")
    parser.add_argument("--save", type=Path, help="a file for the record")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="lastunit-syscalls-"))
    say(f"seed {options.seed}, every {options.step}. call, in {folder}")
    begin = time.monotonic()
    sweep = Sweep(seed=options.seed, step=options.step, folder=folder)
    for kind in options.kind or KINDS:
        sweep.run(kind)
        say(f"{kind}: {time.monotonic() - begin:.0f} s, {len(sweep.problems)} found")
    record: dict[str, Any] = {
        "command": f"python -m tests.crash.syscalls --seed {options.seed} --step {options.step}",
        **machine_facts(),
        "seconds": round(time.monotonic() - begin, 1),
        "operations_a_run": OPERATIONS,
        "runs": sum(sweep.counts.values()),
        "results": dict(sorted(sweep.counts.items())),
        "found": sweep.problems,
    }
    if options.save:
        options.save.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=None if options.json else 1))  # noqa: T201 - the result
    if not sweep.problems:
        shutil.rmtree(folder)
    return 1 if sweep.problems else 0


if __name__ == "__main__":
    sys.exit(main())
