"""The commands that look into a ledger: audit, events, show, explain, verify.

Owns their arguments, what they print and their exit status; must not know how anything is found
out (see `inspection`).
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lastunit_server.errors import EventsRemovedTargetError, ServerError
from lastunit_server.exit_codes import ExitCode

__all__ = ["register"]

Facts = dict[str, Any]

# In the order of a unit's life.
COUNTERS = (
    "supplied",
    "withdrawn",
    "written_off",
    "available",
    "buffer",
    "held",
    "paying",
    "overdue",
    "sold",
    "quarantine",
)
# What every event has; the rest is what it says.
COMMON = {
    "sequence",
    "time",
    "request_id",
    "caller",
    "sale_id",
    "reservation_id",
    "actor",
    "reason",
}

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SettlementTarget = Annotated[
    str | None, typer.Option("--target", help="A live server's settlement listener, host:port.")
]
DataTarget = Annotated[
    str | None, typer.Option("--target", help="A live server's data listener, host:port.")
]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--data-directory", help="A data directory; nothing is written to it."),
]
AsOfOption = Annotated[
    int | None,
    typer.Option(
        "--as-of",
        min=1,
        max=2**63 - 1,
        help="The state as of this sequence; needs --data-directory.",
        show_default="the end",
    ),
]
ReservationOption = Annotated[str | None, typer.Option("--reservation", help="A reservation's id.")]
SaleOption = Annotated[str | None, typer.Option("--sale", help="A sale's id.")]
FromOption = Annotated[
    int | None,
    typer.Option(
        "--from",
        min=1,
        max=2**63 - 1,
        help="The first sequence to print.",
        show_default="the oldest that is there",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Stop after this many events.", show_default="no limit")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line.

    Args:
        app: The command line of the server.
    """
    for command in (audit, events, show, explain, verify):
        app.command()(command)


def audit(
    *,
    target: SettlementTarget = None,
    data_directory: DirectoryOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every invariant of a ledger; exit status 1 if one does not hold.

    A live server goes on serving meanwhile. With --data-directory the ledger is rebuilt from the
    journal, as it is at the end or was --as-of a sequence.
    """
    from lastunit_server import inspection

    live, directory = _one_of(target, data_directory, as_of)
    try:
        if live:
            facts = inspection.live_audit(live)
        else:
            assert directory is not None
            facts = inspection.directory_audit(directory, as_of=as_of)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)
    if as_json:
        _print_json(facts)
    else:
        _print_audit(facts)
    raise typer.Exit(ExitCode.OK if facts["holds"] else ExitCode.CHECK_FAILED)


def events(
    *,
    target: DataTarget = None,
    data_directory: DirectoryOption = None,
    first: FromOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with events to come, until interrupted.")
    ] = False,
    limit: LimitOption = None,
    reservation: ReservationOption = None,
    sale: SaleOption = None,
    reader: Annotated[
        str,
        typer.Option(
            help="Let the live server keep what comes after the events printed, under this name."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Print the events of a ledger in their order, gap-free; operators' with actor and reason.

    A directory may be in use: with --follow its events are shown once they are known durable.
    """
    live, directory = _one_of(target, data_directory)
    if reader and not live:
        raise typer.BadParameter("--reader needs --target: a directory keeps no places")
    try:
        rows = _rows(live, directory, first=first, follow=follow, reader=reader)
        wanted = (row for row in rows if _is_of(row, reservation, sale))
        _print_events(islice(wanted, limit), as_json=as_json)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)
    except KeyboardInterrupt:
        # The way to end a follow.
        raise typer.Exit(ExitCode.OK) from None


def _rows(
    live: str | None, directory: Path | None, *, first: int | None, follow: bool, reader: str
) -> Iterator[Facts]:
    """Yields the events from `first` on, or from the oldest that is there."""
    from lastunit_server import inspection

    def read(after: int) -> Iterator[Facts]:
        if live:
            return inspection.live_events(
                live, after_sequence=after, is_following=follow, reader_id=reader
            )
        assert directory is not None
        return inspection.directory_events(directory, after_sequence=after, is_following=follow)

    if first is not None:
        yield from read(first - 1)
        return
    try:
        yield from read(0)
    except EventsRemovedTargetError as removed:
        typer.echo(f"events before sequence {removed.first_sequence} were removed", err=True)
        yield from read(removed.first_sequence - 1)


def _is_of(row: Facts, reservation: str | None, sale: str | None) -> bool:
    is_reservation = reservation is None or row.get("reservation_id") == reservation
    return is_reservation and (sale is None or row.get("sale_id") == sale)


def show(
    *,
    target: Annotated[
        str | None,
        typer.Option(help="A live server, host:port: settlement listener, for --sale data."),
    ] = None,
    data_directory: DirectoryOption = None,
    as_of: AsOfOption = None,
    reservation: ReservationOption = None,
    sale: SaleOption = None,
    sku: Annotated[list[str] | None, typer.Option(help="Only this sku of the sale.")] = None,
) -> None:
    """Print a reservation, or a sale's availability, as JSON; as it is or was --as-of a sequence.

    Exit status 1 if the ledger does not know it.
    """
    if (reservation is None) == (sale is None):
        raise typer.BadParameter("pass either --reservation ID or --sale ID")
    if reservation is not None:
        facts = _answer("GetReservation", target, data_directory, as_of, reservation_id=reservation)
    else:
        facts = _answer(
            "GetAvailability", target, data_directory, as_of, sale_id=sale, skus=sku or []
        )
    _print_json(facts)
    raise typer.Exit(_code_of(facts))


def explain(
    *,
    reservation: Annotated[str, typer.Argument(help="A reservation's id.")],
    target: SettlementTarget = None,
    data_directory: DirectoryOption = None,
    as_of: AsOfOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every move in the life of a reservation: sequence, time, cause, actor.

    Exit status 1 if the ledger does not know it. Says so if its beginning was removed.
    """
    facts = _answer("ExplainReservation", target, data_directory, as_of, reservation_id=reservation)
    if as_json:
        _print_json(facts)
    elif _code_of(facts) == ExitCode.OK:
        _print_life(facts)
    else:
        typer.echo(f"{reservation} is not known to this ledger", err=True)
    raise typer.Exit(_code_of(facts))


def _answer(
    method: str, target: str | None, directory: Path | None, as_of: int | None, **fields: Any
) -> Facts:
    from lastunit_server import inspection

    live, directory = _one_of(target, directory, as_of)
    try:
        if live:
            return inspection.live_answer(live, method, **fields)
        assert directory is not None
        return inspection.directory_answer(directory, method, as_of=as_of, **fields)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)


def _code_of(facts: Facts) -> ExitCode:
    is_known = facts["result"]["outcome"] == "OUTCOME_OK"
    return ExitCode.OK if is_known else ExitCode.CHECK_FAILED


def verify(
    *,
    data_directory: Annotated[
        Path, typer.Option(help="A data directory; nothing is written to it.")
    ],
    repair_to: Annotated[
        Path | None,
        typer.Option(
            help="Write what can be saved to this directory, which is empty or not there."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every record and every snapshot of a journal; list damage and what can be saved.

    Exit status 0 if it is whole, 1 if it is damaged, 6 if a file can't be read, 7 if it is damaged
    and --repair-to could not write a copy. Damage is never repaired in place. What lies behind
    damage is not saved: it was decided on a state that can't be rebuilt.
    """
    from lastunit_server import inspection

    try:
        facts = inspection.verify(data_directory)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)
    both: Facts = {"source": facts, "copy": None, "policies": None}
    if repair_to is not None:
        try:
            both = inspection.repair(data_directory, repair_to)
        except ServerError as error:
            if not as_json:
                _print_check(facts)
            _fail(error, ExitCode.NOT_SAVED)
    if as_json:
        _print_json(both)
    else:
        _print_check(facts)
        if repair_to is not None:
            _print_copy(both["copy"], repair_to)
            for row in both["policies"]["left_out"]:
                typer.echo(f"left out {row['file']}, a revision of the policy: it {row['message']}")
    raise typer.Exit(ExitCode.OK if facts["is_whole"] else ExitCode.CHECK_FAILED)


def _one_of(
    target: str | None, directory: Path | None, as_of: int | None = None
) -> tuple[str | None, Path | None]:
    if (target is None) == (directory is None):
        raise typer.BadParameter("pass either --target host:port or --data-directory DIRECTORY")
    if as_of is not None and directory is None:
        raise typer.BadParameter("--as-of needs --data-directory: a server shows its present state")
    return target, directory


def _print_json(facts: Facts) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False))


def _print_audit(facts: Facts) -> None:
    for pool in facts["pools"]:
        name = f"{pool['sale_id']}/{pool['sku']}/{pool['pool']}"
        counted = " ".join(f"{key}={pool[key]}" for key in COUNTERS if pool[key])
        leaked = f" LEAKED={pool['leaked_units']}" if pool["leaked_units"] else ""
        typer.echo(f"{name}: {counted or 'no units'}{leaked}")
    for state, count in facts["reservations"].items():
        typer.echo(f"reservations {state}: {count}")
    for row in facts["oldest"]:
        due = f", due {row['due_time']}" if row["due_time"] else ""
        typer.echo(
            f"oldest {row['state']}: {row['reservation_id']}, made {row['create_time']}{due}"
        )
    if facts["late_held_count"]:
        typer.echo(f"held past their time: {facts['late_held_count']}")
    for note in facts.get("notes", ()):
        typer.echo(f"note: {note}")
    for found in facts["findings"]:
        typer.echo(f"BROKEN {found['invariant']} at {found['subject']}: {found['message']}")
    verdict = "every invariant holds" if facts["holds"] else "NOT every invariant holds"
    typer.echo(f"{verdict} as of sequence {facts['sequence']}, epoch {facts['epoch']}")


def _print_events(rows: Iterator[Facts], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            _print_json(row)
            continue
        body = " ".join(
            f"{key} {json.dumps(value)}" for key, value in row.items() if key not in COMMON
        )
        subject = row.get("reservation_id") or row.get("sale_id") or "-"
        # Whoever commands by name says why; both are part of the record.
        signed = f" by {row['actor']}: {row.get('reason', '')}" if row.get("actor") else ""
        typer.echo(f"{row['sequence']:>10} {row.get('time', '-')} {subject} {body}{signed}")


def _print_life(facts: Facts) -> None:
    if not facts.get("is_complete"):
        first = facts.get("first_sequence", "-")
        typer.echo(f"what happened before sequence {first} was removed from the journal", err=True)
    for move in facts.get("transitions", ()):
        states = " -> ".join(
            move.get(key, "-").removeprefix("STATE_") for key in ("state_from", "state_to")
        )
        reason = f": {move['reason']}" if move.get("reason") else ""
        typer.echo(
            f"{move['sequence']:>10} {move['time']} {move['event']} {states}"
            f" cause {move['cause'] or '-'} by {move.get('actor') or '-'}{reason}"
        )


def _print_check(facts: Facts) -> None:
    for problem in facts["problems"]:
        typer.echo(f"DAMAGED {problem['file']} at {problem['offset']}: {problem['message']}")
    if facts["is_ended_early"]:
        typer.echo("there is more: the look ended here")
    if not facts["is_whole"]:
        for run in facts["runs"]:
            typer.echo(
                f"readable: {run['record_count']} records, sequence {run['first_sequence']} to"
                f" {run['last_sequence']}, from {run['position']}"
            )
    if facts["unfinished_tail"]:
        tail = facts["unfinished_tail"]
        typer.echo(
            f"unfinished tail at {tail['position']}, {tail['bytes']} bytes: never acknowledged, the"
            " next start cuts it"
        )
    snapshots = ", ".join(map(str, facts["snapshot_sequences"])) or "none"
    typer.echo(
        f"{facts['segment_count']} segments, {facts['record_count']} records, sequence"
        f" {facts['first_sequence']} to {facts['last_sequence']}, snapshots: {snapshots}, epoch"
        f" {facts['epoch']}"
    )
    saved = facts["can_be_saved"]
    if facts["is_whole"]:
        typer.echo("every record and every snapshot is as it was written")
    elif saved is None:
        typer.echo("NOTHING can be saved: no snapshot and no first event leads to a state")
    else:
        typer.echo(
            f"a copy can be saved up to sequence {saved['last_sequence']}, {saved['end']};"
            f" {saved['lost_event_count']} later events are lost"
        )


def _print_copy(copy: Facts, directory: Path) -> None:
    left = f", {len(copy['problems'])} places of its history unreadable" if copy["problems"] else ""
    typer.echo(
        f"saved to {directory}: sequence {copy['first_sequence']} to {copy['highest_sequence']}"
        f"{left}; audit it, then serve it in place of the damaged one"
    )


def _fail(error: Exception, code: ExitCode) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(code) from error
