"""Windows of eight clients, judged by somebody else's checker: porcupine.

Owns the translation of recorded calls into windows, and the run of the checker in
`tests/linearize`. Must not judge by itself. Next: `tests/linearize/ledger.go`, the specification.

A window is one sale that starts from a known state and that only its eight clients touch. The
checker sees requests, answers and real time; the server's own numbers only when asked to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lastunit.stock.v1 import outcome_pb2, reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock

from .calls import REFUSED, UNKNOWN, Call
from .window_client import UNITS, UNITS_PER_PERSON, UNPAID_PER_PERSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHECKER: Final = Path(__file__).resolve().parents[1] / "linearize"
_KINDS: Final = {
    "Reserve": "reserve",
    "BeginPayment": "begin",
    "SettlePayment": "settle",
    "Confirm": "confirm",
    "Release": "release",
    "GetReservation": "show",
    "GetAvailability": "availability",
}
Window = dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What the checker said.

    Attributes:
        windows: Windows that were checked.
        calls: Calls in them.
        unknown: Calls among them whose answer never came.
        wrong: Names of the windows that no order explains.
        undecided: Names of those that could not be decided in time.
        explained: What is wrong in some of the wrong ones, in words.
        seconds: How long it took.
        checker: Its name and version.
    """

    windows: int
    calls: int
    unknown: int
    wrong: list[str]
    undecided: list[str]
    explained: list[str]
    seconds: float
    checker: str


def has_go() -> bool:
    """Tells whether the Go toolchain is there to build the checker."""
    return shutil.which("go") is not None


def build_checker(folder: Path) -> Path:
    """Builds the checker; returns the program.

    Raises:
        RuntimeError: It does not build; the message holds the compiler's words.
    """
    program = folder / "linearize"
    built = subprocess.run(
        ["go", "build", "-mod=readonly", "-buildvcs=false", "-o", str(program), "."],
        cwd=CHECKER,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GOFLAGS": ""},
    )
    if built.returncode != 0:
        raise RuntimeError(f"the checker does not build: {built.stderr}")
    return program


def check_windows(program: Path, windows: Iterable[Window], *, is_numbered: bool = False) -> Report:
    """Has windows checked.

    Args:
        program: The checker, see `build_checker`.
        windows: As `windows_of` yields them.
        is_numbered: Whether the server's own numbers must be the order that explains the answers.

    Raises:
        RuntimeError: The checker cannot read its input.
    """
    command = [str(program), *(["-numbered"] if is_numbered else [])]
    lines = "".join(f"{json.dumps(window)}\n" for window in windows)
    run = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if not run.stdout:
        raise RuntimeError(f"the checker ended with {run.returncode}: {run.stderr}")
    return Report(**json.loads(run.stdout))


def windows_of(recorded: Iterable[Call]) -> Iterator[Window]:
    """Yields the windows that some calls are of, each with all its calls.

    Args:
        recorded: The calls of any number of clients, those of one client in their order.
    """
    clients: dict[int, list[Call]] = defaultdict(list)
    for call in recorded:
        clients[call.client].append(call)
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for of_client in clients.values():
        for chain in chains_of(of_client):
            entry = entry_of(chain)
            if entry is not None:
                calls[_name(chain[0])].append(entry)
    for name, entries in calls.items():
        yield {
            "name": name,
            "units": UNITS,
            "units_per_person": UNITS_PER_PERSON,
            "unpaid_per_person": UNPAID_PER_PERSON,
            "calls": entries,
        }


def chains_of(calls: Iterable[Call]) -> Iterator[list[Call]]:
    """Groups the calls of one client: those without an answer with the one that was sent again."""
    chain: list[Call] = []
    for call in calls:
        if call.method not in _KINDS or call.return_ns == REFUSED:
            continue
        if chain and chain[-1].request != call.request:
            yield chain
            chain = []
        chain.append(call)
        if call.return_ns != UNKNOWN:
            yield chain
            chain = []
    if chain:
        yield chain


def entry_of(chain: Sequence[Call]) -> dict[str, Any] | None:
    """Turns a call and what went before it without an answer into one call of a window.

    A call without an answer may have taken effect or not; each shortcut here picks one of the two,
    so a window that is accepted with it has an order that explains everything:

    - A question changes nothing, so it is left out.
    - If the same id, sent again, was not a repeat, the call before it took no effect.
    - If it was a repeat, the effect came at some time between the first call and this answer.
    - If nobody sent it again, it may take effect at any time, or after the end.
    """
    last = chain[-1]
    if last.return_ns == UNKNOWN and _KINDS[last.method] in ("show", "availability"):
        return None
    request: Any = getattr(stock, f"{last.method}Request").FromString(last.request)
    entry: dict[str, Any] = {
        "client": last.client,
        "call": chain[0].call_ns,
        "return": last.return_ns,
        "kind": _KINDS[last.method],
        **_asked(request),
    }
    if last.return_ns != UNKNOWN:
        reply: Any = getattr(stock, f"{last.method}Response").FromString(last.reply)
        entry |= _answered(reply)
        entry["repeated"] = len(chain) > 1 and reply.result.replayed
        if not entry["repeated"]:
            entry["call"] = last.call_ns
    return entry


def _name(call: Call) -> str:
    request: Any = getattr(stock, f"{call.method}Request").FromString(call.request)
    name: str = request.sale_id if "sale_id" in request.DESCRIPTOR.fields_by_name else ""
    return name or str(request.reservation_id).partition(".")[0]


def _asked(request: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    fields = request.DESCRIPTOR.fields_by_name
    for name in ("reservation", "person", "request", "attempt"):
        if f"{name}_id" in fields:
            asked[name] = getattr(request, f"{name}_id")
    if "lines" in fields:
        asked["units"] = sum(line.units for line in request.lines)
    if "payment_result" in fields:
        asked["succeeded"] = request.payment_result == reservation_pb2.PAYMENT_RESULT_SUCCEEDED
    return asked


def _answered(reply: Any) -> dict[str, Any]:
    answered: dict[str, Any] = {
        "epoch": reply.place.epoch,
        "number": reply.place.op_number,
        "outcome": outcome_pb2.Outcome.Name(reply.result.outcome).removeprefix("OUTCOME_"),
        "replayed": reply.result.replayed,
        "state": _short(reservation_pb2.State.Name(reply.result.state), "STATE_"),
    }
    fields = reply.DESCRIPTOR.fields_by_name
    if "attempt_state" in fields:
        name = reservation_pb2.AttemptState.Name(reply.attempt_state)
        answered["attempt_state"] = _short(name, "ATTEMPT_STATE_")
        answered["ignored"] = reply.ignored
        answered["retaken"] = reply.retaken
    if "reservation" in fields and reply.HasField("reservation"):
        answered["state"] = _short(reservation_pb2.State.Name(reply.reservation.state), "STATE_")
    if "availabilities" in fields:
        [shown] = reply.availabilities
        for place in ("available", "held", "paying", "sold"):
            answered[place] = getattr(shown.counters, place)
    return answered


def _short(name: str, prefix: str) -> str:
    short = name.removeprefix(prefix)
    return "" if short == "UNSPECIFIED" else short
