"""Writes the pages of docs/reference that draw state machines, from their tables in the code.

Owns: the form of the pages, and which machine is on which. Must not: hold a word about a state or
an event; those stand beside the members of the enums. A test compares the pages with what this
prints.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lastunit.account import states as account
from lastunit.order import states as order
from lastunit.payment import breaker, refund_states
from lastunit.payment import states as attempt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from enum import StrEnum

_DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "reference"


@dataclass(frozen=True)
class Machine:
    """Is one table of moves.

    Attributes:
        title: Of its section.
        about: A sentence or two: whose table it is and what becomes of a pair that is not in it.
        states: Every state, with what it means beside each member.
        events: Every event, likewise.
        transitions: (state, event) to state; what is missing is not legal.
        start: Where it begins.
    """

    title: str
    about: str
    states: type[StrEnum]
    events: type[StrEnum]
    transitions: Mapping[Any, StrEnum]
    start: StrEnum


@dataclass(frozen=True)
class Page:
    """Is one page.

    Attributes:
        name: The file's, in docs/reference.
        title: Its heading.
        about: What stands under that, one sentence a line.
        machines: Its sections.
    """

    name: str
    title: str
    about: str
    machines: tuple[Machine, ...]

    @property
    def path(self) -> Path:
        """Returns where it is kept."""
        return _DIRECTORY / self.name


ORDER_PAGE = Page(
    name="order-states.md",
    title="States of an order",
    about="""\
The order service enforces these tables and no other rule moves an order.
Every move is kept with entity, from, to, event, cause, actor and time: `lastunit order explain`.
""",
    machines=(
        Machine(
            title="Order",
            about="""\
An order moves by the ledger's events about its reservation, and by refunds that were asked of us.
A pair that is not here changes nothing, is counted, and the order is compared with the ledger.
No timer of the order service is among the events.""",
            states=order.OrderState,
            events=order.OrderEvent,
            transitions=order.TRANSITIONS,
            start=order.OrderState.CREATED,
        ),
        Machine(
            title="Fulfilment",
            about="""\
Where the goods are, beside the order's own state.
A pair that is not here is refused as WRONG_STATE with the state the goods are in.""",
            states=order.FulfilmentState,
            events=order.FulfilmentEvent,
            transitions=order.FULFILMENT_TRANSITIONS,
            start=order.FulfilmentState.UNSHIPPED,
        ),
    ),
)

PAYMENT_PAGE = Page(
    name="payment-states.md",
    title="States of attempts, refunds and providers",
    about="""\
The payment service enforces these tables and no other rule moves an attempt, a refund or a breaker.
Every move is kept with entity, from, to, event, cause (call, callback, ledger sequence, timer or
bill), actor and time; so is news that changes nothing. `ListTransitions` shows those of an order.
""",
    machines=(
        Machine(
            title="Attempt",
            about="""\
An attempt moves by what its provider says: in a callback, when it is asked, or on its bill.
Rank of truth: SUCCEEDED over CANCELLED and FAILED over OPEN and UNKNOWN over INIT.
A pair that is not here is written down, counted and changes nothing. No clock ends an attempt.""",
            states=attempt.AttemptState,
            events=attempt.News,
            transitions={
                (state, news): decision.state
                for state, row in attempt.TABLE.items()
                for news, decision in row.items()
                if decision.effect is not attempt.Effect.IGNORE
            },
            start=attempt.AttemptState.INIT,
        ),
        Machine(
            title="Refund",
            about="""\
A refund moves by what its provider says; silence neither ends it nor gives money back.
All refunds of an attempt together are never more than what was paid, refused ones included.
A pair that is not here is written down and changes nothing.""",
            states=refund_states.RefundState,
            events=refund_states.RefundEvent,
            transitions={
                (state, event): decision.state
                for state, row in refund_states.TABLE.items()
                for event, decision in row.items()
                if decision.effect is not refund_states.RefundEffect.IGNORE
            },
            start=refund_states.RefundState.INIT,
        ),
        Machine(
            title="Breaker of a provider",
            about="""\
It decides who gets new attempts; those that a provider has stay with it.
A pair that is not here changes nothing.""",
            states=breaker.BreakerState,
            events=breaker.BreakerEvent,
            transitions=breaker.TRANSITIONS,
            start=breaker.BreakerState.CLOSED,
        ),
    ),
)

_REFUSED = "A pair that is not here is refused, and nothing is changed."

ACCOUNT_PAGE = Page(
    name="account-states.md",
    title="States of persons and what belongs to them",
    about="""\
The account service enforces these tables; one function writes every state and no other one does.
Every move is kept with entity, from, to, event, cause, actor, reason and time: `ExplainPerson`.
What the moves are for: [accounts](../operating/accounts.md).
""",
    machines=(
        Machine(
            title="Person",
            about=f"""\
Each account is made with a person of its own, which never vanishes: it becomes a part of another.
{_REFUSED}""",
            states=account.PersonState,
            events=account.PersonEvent,
            transitions=account.TABLES[account.Entity.PERSON],
            start=account.PersonState.NONE,
        ),
        Machine(
            title="Account",
            about=f"""\
A locked account logs in and sees its orders; it buys nothing.
{_REFUSED}""",
            states=account.AccountState,
            events=account.AccountEvent,
            transitions=account.TABLES[account.Entity.ACCOUNT],
            start=account.AccountState.NONE,
        ),
        Machine(
            title="Identifier",
            about=f"""\
An identifier leads to one account at a time.
{_REFUSED}""",
            states=account.IdentifierState,
            events=account.IdentifierEvent,
            transitions=account.TABLES[account.Entity.IDENTIFIER],
            start=account.IdentifierState.NONE,
        ),
        Machine(
            title="Union",
            about=f"""\
While a union is active both persons count as one towards limits, and are two in all else.
{_REFUSED}""",
            states=account.UnionState,
            events=account.UnionEvent,
            transitions=account.TABLES[account.Entity.UNION],
            start=account.UnionState.NONE,
        ),
        Machine(
            title="Merge",
            about=f"""\
Merges that stand make trees; a reversal takes along what had joined the person before.
{_REFUSED}""",
            states=account.MergeState,
            events=account.MergeEvent,
            transitions=account.TABLES[account.Entity.MERGE],
            start=account.MergeState.NONE,
        ),
        Machine(
            title="Claim",
            about=f"""\
The way out when every old login is dead. What a clock does depends on the claim's own times, not
on when the clock's loop came by.
{_REFUSED}""",
            states=account.ClaimState,
            events=account.ClaimEvent,
            transitions=account.TABLES[account.Entity.CLAIM],
            start=account.ClaimState.NONE,
        ),
    ),
)

PAGES = (ORDER_PAGE, PAYMENT_PAGE, ACCOUNT_PAGE)


def text(page: Page) -> str:
    """Returns a whole page."""
    head = f"# {page.title}\n\nMade by `python tools/states_page.py` from the code; do not edit.\n"
    return "\n".join([head + page.about, *(_section(machine) for machine in page.machines)])


def meanings(members: type[StrEnum]) -> dict[str, str]:
    """Returns what stands beside each member of an enum, in one line.

    Raises:
        ValueError: A member has no such words.
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(members))).body[0]
    assert isinstance(body, ast.ClassDef)
    said: dict[str, str] = {}
    for node, following in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        words = _words(following)
        if not words:
            raise ValueError(f"{members.__name__}.{name} does not say what it means")
        said[name] = words
    return said


def _words(node: ast.stmt | None) -> str:
    """Returns the text that a statement is, in one line; empty if it is another statement."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return ""
    return " ".join(str(node.value.value).split())


def _section(machine: Machine) -> str:
    lines = [f"## {machine.title}", "", machine.about, ""]
    lines += ["| state | what it means |", "|---|---|"]
    lines += [f"| `{name}` | {said} |" for name, said in meanings(machine.states).items()]
    lines += ["", "| event | what it means |", "|---|---|"]
    lines += [f"| `{name}` | {said} |" for name, said in meanings(machine.events).items()]
    lines += ["", "Where each event leads from each state; a dot is a pair without a place.", ""]
    lines += [*_matrix(machine), "", "```mermaid", *_diagram(machine), "```", ""]
    return "\n".join(lines)


def _matrix(machine: Machine) -> Iterator[str]:
    states = list(machine.states)
    yield "| event | " + " | ".join(f"from {state}" for state in states) + " |"
    yield "|---|" + "---|" * len(states)
    for event in machine.events:
        cells = (machine.transitions.get((state, event)) for state in states)
        shown = " | ".join("·" if cell is None else str(cell) for cell in cells)
        yield f"| `{event}` | {shown} |"


def _diagram(machine: Machine) -> Iterator[str]:
    """Draws the moves that change the state; the others are in the table."""
    events: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for (state, event), target in machine.transitions.items():
        if target is not state:
            events[state, target].append(event)
    yield "stateDiagram-v2"
    yield f"    [*] --> {machine.start}"
    for (source, end), names in events.items():
        yield f"    {source} --> {end}: {', '.join(names)}"


def main() -> None:
    """Writes the pages, or with `--check` fails if one differs."""
    for page in PAGES:
        if "--check" not in sys.argv:
            page.path.write_text(text(page))
        elif page.path.read_text() != text(page):
            sys.exit(f"{page.name} is not what the code says; run python tools/states_page.py")


if __name__ == "__main__":
    main()
