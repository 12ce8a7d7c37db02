"""The commands with which support staff look after persons: find, explain, claims, decisions.

Owns flags, what is printed and the exit status: 0 done, 1 refused, 2 a wrong argument, 6 the
service can't be reached. Must not decide anything, and never sees an identifier but the one that is
looked for: the account service masks them. Next: `lastunit.account.desk_text` has the words.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer
from google.protobuf.json_format import MessageToDict

from lastunit.account import desk_text
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.client.peer import PeerClient
from lastunit.client.security import ClientSecurity
from lastunit.errors import LastunitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

__all__ = ["approve", "claims", "explain", "find", "reject", "reverse"]

MessageT = TypeVar("MessageT", bound="Message")

_UNREACHED: Final = 6
_REFUSED: Final = 1
_PAGE_SIZE: Final = 500
_DEADLINE_SECONDS: Final = 30.0
_ACTOR_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9._:-]", re.ASCII)

_Address = Annotated[
    str,
    typer.Option(
        "--account-address", help="The account service.", envvar="LASTUNIT_ACCOUNT_ADDRESS"
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
_Actor = Annotated[str, typer.Option(help="Who asks, for the record; your login name if left out.")]
_Reason = Annotated[
    str, typer.Option(help="Why, for the record; 1 to 256 bytes, without personal data.")
]
_RequestId = Annotated[
    str,
    typer.Option(
        "--request-id", help="Repeats an earlier call with this id instead of making a new one."
    ),
]
_Claim = Annotated[str, typer.Argument(help="The claim's id.", metavar="CLAIM")]


def find(
    identifier: Annotated[
        str,
        typer.Argument(
            help="A phone number such as +4930123456, an e-mail address, or issuer/subject of an "
            "external login; - reads it from standard input, which keeps it out of the shell's "
            "history.",
            metavar="IDENTIFIER",
        ),
    ] = "-",
    *,
    address: _Address,
    reason: _Reason,
    actor: _Actor = "",
    as_json: _Json = False,
) -> None:
    """Finds the account that an identifier leads to; the look is logged under your name."""
    text = identifier if identifier != "-" else typer.get_text_stream("stdin").readline().strip()
    request = pb.FindAccountRequest(
        identifier=_identifier(text), actor=_actor_or_login(actor), reason=reason
    )
    answer = _ask(address, "FindAccount", request, pb.FindAccountResponse)
    if answer.refusal:
        # The identifier stays out of every log, also that of a terminal.
        _fail(f"it leads to no account: {desk_text.refusal(answer.refusal)}")
    _show(answer.account, desk_text.account(answer.account), as_json=as_json)


def explain(
    name: Annotated[
        str, typer.Argument(help="A person's id, p-…, or an account's, a-….", metavar="PERSON")
    ],
    *,
    address: _Address,
    as_json: _Json = False,
) -> None:
    """Shows a person with all that belongs to it, and every move of it."""
    is_account = name.startswith("a-")
    request = pb.GetPersonRequest(**{"account_id" if is_account else "person_id": name})
    shown = _ask(address, "GetPerson", request, pb.GetPersonResponse)
    if shown.refusal:
        _fail(f"{name} can't be shown: {desk_text.refusal(shown.refusal)}")
    asked = pb.ExplainPersonRequest(person_id=shown.person.person_id)
    told = _ask(address, "ExplainPerson", asked, pb.ExplainPersonResponse)
    if told.refusal:
        _fail(f"{name} can't be explained: {desk_text.refusal(told.refusal)}")
    if as_json:
        steps = [_plain(step) for step in told.transitions]
        typer.echo(json.dumps({**_plain(shown), "transitions": steps}))
        return
    for line in desk_text.person(shown, told.transitions):
        typer.echo(line)


def claims(
    *,
    address: _Address,
    state: Annotated[
        str, typer.Option(help="One state, such as WAITING or APPROVED; all if left out.")
    ] = "",
    person: Annotated[str, typer.Option(help="Those by a person, or on it.")] = "",
    as_json: _Json = False,
) -> None:
    """Lists the claims of accounts on persons whose logins are dead."""
    request = pb.ListClaimsRequest(
        state=_claim_state(state), person_id=person, page_size=_PAGE_SIZE
    )
    count = 0
    for claim in _claim_pages(address, request):
        count += 1
        _show(claim, desk_text.claim(claim), as_json=as_json)
    if not count and not as_json:
        typer.echo("there is none")


def approve(
    claim: _Claim,
    *,
    address: _Address,
    reason: _Reason,
    actor: _Actor = "",
    request_id: _RequestId = "",
    as_json: _Json = False,
) -> None:
    """Approves a claim before its wait is over; its owner still has to confirm."""
    request = pb.ApproveClaimRequest(
        request_id=_request_or_new(request_id, "approve"),
        claim_id=claim,
        actor=_actor_or_login(actor),
        reason=reason,
    )
    answer = _ask(address, "ApproveClaim", request, pb.ApproveClaimResponse)
    _decided(answer, request.request_id, answer.claim, desk_text.claim, as_json=as_json)


def reject(
    claim: _Claim,
    *,
    address: _Address,
    reason: _Reason,
    actor: _Actor = "",
    request_id: _RequestId = "",
    as_json: _Json = False,
) -> None:
    """Rejects a claim; both go on counting as one until the claimant proves another name."""
    request = pb.RejectClaimRequest(
        request_id=_request_or_new(request_id, "reject"),
        claim_id=claim,
        actor=_actor_or_login(actor),
        reason=reason,
    )
    answer = _ask(address, "RejectClaim", request, pb.RejectClaimResponse)
    _decided(answer, request.request_id, answer.claim, desk_text.claim, as_json=as_json)


def reverse(
    merge: Annotated[str, typer.Argument(help="The merge's id, as explain shows it.")],
    *,
    address: _Address,
    reason: _Reason,
    actor: _Actor = "",
    request_id: _RequestId = "",
    as_json: _Json = False,
) -> None:
    """Takes a merge back, up to 30 days after it: accounts and what they bought go back."""
    request = pb.ReverseMergeRequest(
        request_id=_request_or_new(request_id, "reverse"),
        merge_id=merge,
        actor=_actor_or_login(actor),
        reason=reason,
    )
    answer = _ask(address, "ReverseMerge", request, pb.ReverseMergeResponse)
    _decided(answer, request.request_id, answer.merge, desk_text.merge, as_json=as_json)


def _decided(answer: Any, request_id: str, shown: Any, text: Any, *, as_json: bool) -> None:
    """Prints what came of a decision."""
    if answer.refusal:
        field = f" ({answer.conflict_field})" if answer.conflict_field else ""
        _fail(f"{request_id} is refused: {desk_text.refusal(answer.refusal)}{field}")
    again = ", as decided before" if answer.replayed else ""
    _show(shown, f"{text(shown)}  ({request_id}{again})", as_json=as_json)


def _show(message: Message, text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(_plain(message)) if as_json else text)


def _fail(sentence: str, *, status: int = _REFUSED) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(status)


def _plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it, with the contract's names."""
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return fields


def _actor_or_login(actor: str) -> str:
    return _ACTOR_CHARACTERS.sub("-", actor or getpass.getuser())[:64]


def _request_or_new(request_id: str, kind: str) -> str:
    return request_id or f"{kind}-{secrets.token_hex(8)}"


def _identifier(text: str) -> pb.Identifier:
    if text.startswith("+"):
        return pb.Identifier(phone=text)
    issuer, slash, subject = text.partition("/")
    if slash and "@" not in issuer:
        return pb.Identifier(external=pb.ExternalLogin(issuer=issuer, subject=subject))
    return pb.Identifier(email=text)


def _claim_state(word: str) -> person_pb2.ClaimState.ValueType:
    if not word:
        return person_pb2.CLAIM_STATE_UNSPECIFIED
    known = [name.removeprefix("CLAIM_STATE_") for name in person_pb2.ClaimState.keys()[1:]]
    if word.upper() not in known:
        raise typer.BadParameter(f"{word!r} is none of {', '.join(known)}", param_hint="--state")
    return person_pb2.ClaimState.Value(f"CLAIM_STATE_{word.upper()}")


def _claim_pages(address: str, request: pb.ListClaimsRequest) -> Iterator[person_pb2.Claim]:
    while True:
        page = _ask(address, "ListClaims", request, pb.ListClaimsResponse)
        yield from page.claims
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _ask(address: str, method: str, request: Message, response_type: type[MessageT]) -> MessageT:
    """Calls the account service once, or ends the command with a sentence."""
    try:
        return asyncio.run(_call(address, method, request, response_type))
    except LastunitError as error:
        _fail(f"the account service at {address} did not do it: {error}", status=_UNREACHED)


async def _call(
    address: str, method: str, request: Message, response_type: type[MessageT]
) -> MessageT:
    security = ClientSecurity.from_environment()
    peer = PeerClient(address, deadline_seconds=_DEADLINE_SECONDS, security=security)
    try:
        path = f"/lastunit.account.v1.AccountService/{method}"
        answer: MessageT = await peer.call(path, request, response_type)
        return answer
    finally:
        await peer.close()
