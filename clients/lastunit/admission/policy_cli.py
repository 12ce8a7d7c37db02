"""`lastunit admission show|put|dry-run|history|rollback`: the policy of a live ledger.

Owns arguments and what is printed. Must not read a policy: the server does, with the reader that it
uses for its own file, so that a mistake is told with the same line everywhere.

Exit status: 0 done, 1 the server was not reached or the file can't be read, 2 a wrong argument,
3 the server refused.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - typer reads the annotation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from google.protobuf.json_format import MessageToJson

from lastunit.admission import way
from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.admission.way import (
    TARGET_DEFAULT,
    ActorOption,
    JsonOption,
    ReasonOption,
    TargetOption,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["register"]

_ENDS: Final = way.Ends(unreached=1, refused=3)

Document = Annotated[Path, typer.Argument(help="The TOML document.", metavar="FILE")]
Expected = Annotated[
    int | None,
    typer.Option(
        "--expect", min=0, help="Refuse if this is not the last revision.", show_default="any"
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the words to `lastunit admission`."""
    app.command("show")(show)
    app.command("put")(put)
    app.command("dry-run")(dry_run)
    app.command("history")(history)
    app.command("rollback")(rollback)


def show(
    *,
    target: TargetOption = TARGET_DEFAULT,
    has_settings: Annotated[
        bool, typer.Option("--settings", help="Print every setting, defaults included.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the policy in force: who put it, why, and its document."""
    held = way.call(
        target, "GetPolicy", messages.GetPolicyRequest(), messages.GetPolicyResponse, _ENDS
    )
    if as_json:
        typer.echo(MessageToJson(held, preserving_proto_field_name=True))
        return
    typer.echo(_line_of(held.revision))
    if held.HasField("next_revision"):
        typer.echo(f"waits for its time: {_line_of(held.next_revision)}")
    if held.HasField("shadow"):
        typer.echo(f"on trial since {_when(held.shadow.start_time)}: {held.shadow.reason}")
    typer.echo()
    if has_settings:
        for row in held.settings:
            typer.echo(f"{row.key} = {row.value}")
    else:
        typer.echo(held.revision.document.rstrip("\n"))


def put(
    document: Document,
    *,
    reason: ReasonOption,
    target: TargetOption = TARGET_DEFAULT,
    actor: ActorOption = "",
    expected_revision: Expected = None,
    at: Annotated[
        datetime | None,
        typer.Option(help="When it takes effect, local time.", show_default="now"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Put a document as a new revision; it is in force when the command ends."""
    request = _put_request(document, actor, reason, expected_revision)
    if at is not None:
        request.effect_time.FromDatetime(at.astimezone())
    done = way.call(target, "PutPolicy", request, messages.PutPolicyResponse, _ENDS)
    if as_json:
        typer.echo(MessageToJson(done, preserving_proto_field_name=True))
        return
    _print_changes(done.changes)
    if done.in_force_revision == done.revision:
        typer.echo(f"revision {done.revision} is in force")
    else:
        typer.echo(f"revision {done.revision} takes effect at {_when(done.effect_time)}")


def dry_run(
    document: Document, *, target: TargetOption = TARGET_DEFAULT, as_json: JsonOption = False
) -> None:
    """Check a document and print what it would change; change nothing."""
    request = _put_request(document, "", "dry run", None)
    request.is_dry_run = True
    done = way.call(target, "PutPolicy", request, messages.PutPolicyResponse, _ENDS)
    if as_json:
        typer.echo(MessageToJson(done, preserving_proto_field_name=True))
        return
    _print_changes(done.changes)
    typer.echo(f"{document} is valid; nothing was changed")


def history(
    *,
    target: TargetOption = TARGET_DEFAULT,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many revisions.")] = 20,
    before: Annotated[
        int, typer.Option(min=0, help="Begin before this revision.", show_default="the newest")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """List revisions, the newest first: who, why and when."""
    request = messages.ListRevisionsRequest(page_size=limit, before_revision=before)
    listed = way.call(target, "ListRevisions", request, messages.ListRevisionsResponse, _ENDS)
    if as_json:
        typer.echo(MessageToJson(listed, preserving_proto_field_name=True))
        return
    for row in listed.revisions:
        mark = "*" if row.revision == listed.in_force_revision else " "
        typer.echo(f"{mark} {_line_of(row)}")
    if not listed.revisions:
        typer.echo("no revision was put; the policy that the program brings along holds")


def rollback(
    revision: Annotated[int, typer.Argument(min=0, help="Whose document is put again.")],
    *,
    reason: ReasonOption,
    target: TargetOption = TARGET_DEFAULT,
    actor: ActorOption = "",
    expected_revision: Expected = None,
    as_json: JsonOption = False,
) -> None:
    """Put the document of an older revision again, as a new one; 0 is the built-in policy."""
    request = messages.RollBackRequest(
        revision=revision, actor=way.actor_or_login(actor), reason=reason
    )
    if expected_revision is not None:
        request.expected_revision = expected_revision
    done = way.call(target, "RollBack", request, messages.RollBackResponse, _ENDS)
    if as_json:
        typer.echo(MessageToJson(done, preserving_proto_field_name=True))
        return
    _print_changes(done.changes)
    typer.echo(f"revision {done.revision}, with the document of {revision}, is in force")


def _put_request(
    document: Path, actor: str, reason: str, expected_revision: int | None
) -> messages.PutPolicyRequest:
    try:
        text = document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        way.fail(f"{document} can't be read: {error}", _ENDS.unreached, _ENDS)
    request = messages.PutPolicyRequest(
        document=text, actor=way.actor_or_login(actor), reason=reason
    )
    if expected_revision is not None:
        request.expected_revision = expected_revision
    return request


def _print_changes(changes: Sequence[messages.PolicyChange]) -> None:
    for row in changes:
        before = row.before if row.HasField("before") else "(none)"
        after = row.after if row.HasField("after") else "(none)"
        typer.echo(f"{row.key}: {before} -> {after}")
    if not changes:
        typer.echo("nothing differs from the policy in force")


def _line_of(row: messages.PolicyRevision) -> str:
    if row.revision == 0:
        return "revision 0: the policy that the program brings along"
    who = row.actor if row.actor == row.caller else f"{row.actor} as {row.caller}"
    return f"revision {row.revision}  {_when(row.effect_time)}  {who}: {row.reason}"


def _when(time: Any) -> str:
    return str(time.ToJsonString())
