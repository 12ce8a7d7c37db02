"""The full record: rounds of load until so many operations are checked, and a thousand windows.

Owns the long run and its figures. Must not be needed by a test. Run as
`python -m tests.history.record`, or `make history`; `--help` lists what can be set.

While a round is recorded, the one before it is checked in a process of its own and then deleted,
so that a run of any length needs the memory and disk of two rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import random
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bench.machine import ROOT, facts

from lastunit.stock.v1 import journal_service_pb2 as journal

from .calls import read_files
from .load import Field, Round, Shape, run_round, run_windows
from .order import OrderCheck
from .steps import open_calls
from .windows import build_checker, check_windows, has_go, windows_of
from .worlds import WORLDS, sale_id

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

_RESULT: Final = ROOT / "bench" / "results" / "history.json"
_ROUND: Final = Shape(
    processes=2,
    batch_clients=6,
    unary_clients=2,
    operations=16_000,
    unary_operations=400,
    batch_max=128,
    ends=2,
)
_WINDOWS_AT_A_TIME: Final = 50
_WINDOW_PROCESSES: Final = 2
_WINDOW_OPERATIONS: Final = 40
_WINDOW_ENDS: Final = 3


@dataclass
class Record:
    """What the long run adds up to; written as JSON."""

    operations: int = 0
    rounds: int = 0
    windows: int = 0
    window_calls: int = 0
    numbered_windows: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    tally: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class _Job:
    """One round on its way to the process that checks it."""

    number: int
    calls: list[Path]
    events: Path


def _check_rounds(jobs: Queue[_Job | None], answers: Queue[dict[str, Any]]) -> None:
    """Checks rounds as they come; ends with the first that has a finding."""
    check = OrderCheck()
    started = time.process_time()
    while (job := jobs.get()) is not None:
        events = journal.ReadEventsResponse.FromString(job.events.read_bytes()).events
        findings = check.check(open_calls(read_files(job.calls)), events)
        if not findings:
            check.forget([sale_id(job.number, world.kind) for world in WORLDS])
            for path in (*job.calls, job.events):
                path.unlink()
        answers.put(
            {
                "number": job.number,
                "findings": findings,
                "tally": check.tally.as_dict(),
                "cpu_seconds": time.process_time() - started,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
        if findings:
            return


def _hand_over(played: Round, folder: Path) -> _Job:
    events = folder / f"{played.number:05}.events"
    events.write_bytes(journal.ReadEventsResponse(events=played.events).SerializeToString())
    return _Job(played.number, played.calls, events)


class _Checking:
    """The process that checks, at most one round behind."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._folder = folder
        self._jobs: Queue[_Job | None] = context.Queue()
        self._answers: Queue[dict[str, Any]] = context.Queue()
        self._process = context.Process(
            target=_check_rounds, args=(self._jobs, self._answers), daemon=True
        )
        self._process.start()
        self._waiting = 0
        self.last: dict[str, Any] = {"findings": [], "tally": {"operations": 0}}

    def give(self, played: Round) -> None:
        """Gives a round away and waits until the one before it is checked."""
        self._jobs.put(_hand_over(played, self._folder))
        self._waiting += 1
        while self._waiting > 1:
            self._take()

    def finish(self) -> None:
        """Waits until everything is checked."""
        while self._waiting and not self.last["findings"]:
            self._take()
        self._jobs.put(None)
        self._process.join()

    def _take(self) -> None:
        while True:
            try:
                self.last = self._answers.get(timeout=1)
            except queue.Empty:
                if self._process.is_alive():
                    continue
                raise RuntimeError("the process that checks has ended; see its traceback") from None
            self._waiting -= 1
            return


def record_rounds(record: Record, folder: Path, *, seed: int, operations: int) -> None:
    """Records and checks rounds until so many operations are checked."""
    field_ = Field(folder, seed)
    checking = _Checking(folder)
    started = time.monotonic()
    try:
        while checking.last["tally"]["operations"] < operations:
            played = run_round(field_, _ROUND, record.rounds, is_settled=True)
            record.rounds += 1
            checking.give(played)
            _say(record, checking.last, time.monotonic() - started)
            if checking.last["findings"]:
                break
        checking.finish()
    finally:
        field_.stop()
    record.findings += checking.last["findings"]
    record.tally = checking.last["tally"]
    record.operations = record.tally["operations"]
    _add(record.ends, field_.ends)
    record.seconds["rounds"] = round(time.monotonic() - started, 1)
    record.seconds["checking_cpu"] = round(checking.last.get("cpu_seconds", 0), 1)
    record.tally["checker_peak_mib"] = checking.last.get("peak_mib", 0)


def record_windows(record: Record, folder: Path, *, seed: int, windows: int) -> None:
    """Records windows and has them judged, until so many are."""
    checker = build_checker(folder)
    field_ = Field(folder, seed)
    started = time.monotonic()
    judging = 0.0
    try:
        while record.windows < windows and not record.findings:
            played = run_windows(
                field_,
                first=record.windows,
                windows=_WINDOWS_AT_A_TIME,
                operations=_WINDOW_OPERATIONS,
                processes=_WINDOW_PROCESSES,
                ends=_WINDOW_ENDS,
            )
            recorded = list(windows_of(read_files(played.calls)))
            for is_numbered in (False, True):
                report = check_windows(checker, recorded, is_numbered=is_numbered)
                judging += report.seconds
                if report.wrong or report.undecided:
                    record.findings.append(f"porcupine, numbered {is_numbered}: {report}")
            record.windows += report.windows
            record.numbered_windows += report.windows
            record.window_calls += report.calls
            for path in played.calls:
                path.unlink()
            sys.stderr.write(f"{record.windows} windows, {record.window_calls} calls\n")
    finally:
        field_.stop()
    _add(record.ends, field_.ends)
    record.seconds["windows"] = round(time.monotonic() - started, 1)
    record.seconds["porcupine"] = round(judging, 1)


def _add(ends: dict[str, int], more: dict[str, int]) -> None:
    for kind, count in more.items():
        ends[kind] = ends.get(kind, 0) + count


def _say(record: Record, last: dict[str, Any], seconds: float) -> None:
    done = last["tally"]["operations"]
    sys.stderr.write(
        f"round {record.rounds}: {done} operations checked, {seconds:.0f} s,"
        f" {len(last['findings'])} findings, checker {last.get('cpu_seconds', 0):.0f} s of CPU"
        f" and {last.get('peak_mib', 0)} MiB\n"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.history.record", description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000_000, help="to check by place")
    parser.add_argument("--windows", type=int, default=1000, help="to have porcupine check")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--output", type=Path, default=_RESULT, help="where the figures go")
    parser.add_argument("--folder", type=Path, help="where to record; default: a temporary folder")
    return parser.parse_args()


def main() -> None:
    """Runs the record and writes what it adds up to; exit status 1 if anything was found."""
    options = _options()
    if options.windows and not has_go():
        sys.exit("history: needs Go 1.26 or later to build porcupine; --windows 0 leaves it out")
    folder = Path(tempfile.mkdtemp(prefix="lastunit-history-", dir=options.folder))
    record = Record()
    sys.stderr.write(f"seed {options.seed}, folder {folder}\n")
    for name, run in (("rounds", record_rounds), ("windows", record_windows)):
        count = options.operations if name == "rounds" else options.windows
        if count and not record.findings:
            (folder / name).mkdir()
            target = "operations" if name == "rounds" else "windows"
            run(record, folder / name, seed=options.seed, **{target: count})
    _write(record, options)
    for finding in record.findings:
        sys.stderr.write(f"{finding}\n")
    if record.findings:
        sys.exit(f"history: {len(record.findings)} findings; the calls are kept in {folder}")
    shutil.rmtree(folder)


def _write(record: Record, options: argparse.Namespace) -> None:
    command = f"python -m tests.history.record --operations {options.operations}"
    figures = {
        "what": "every reply checked by its place, and windows of 8 clients by porcupine",
        "command": f"{command} --windows {options.windows} --seed {options.seed}",
        "machine": facts(),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(record),
    }
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stderr.write(f"written to {options.output}\n")


if __name__ == "__main__":
    main()
