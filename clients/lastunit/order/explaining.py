"""Explains an order: what happened to it here, in the ledger and at the payment service, by time.

Owns the joining of the three; what one of them cannot tell is said and keeps nobody from the rest.
Must not change anything. Next: `lastunit.order.explain_text` prints it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lastunit.client.outcomes import State
from lastunit.errors import LastunitError
from lastunit.order import refunds, store, views
from lastunit.order.refunds import ReturnState
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2

if TYPE_CHECKING:
    from lastunit.order.ports import LedgerPort, PaymentPort
    from lastunit.service.database import Database
    from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

__all__ = ["Explainer"]

# Transitions of each of the three; an order has a few dozen.
_STEPS_MAX: Final = 1_024
_PAGE_MAX: Final = 256

_ENTITIES: Final = {
    "attempt": order_pb2.TRANSITION_ENTITY_ATTEMPT,
    "refund": order_pb2.TRANSITION_ENTITY_REFUND,
}


class Explainer:
    """Joins what is known of an order.

    Args:
        database: The order service's tables, for reading.
        ledger: Explains the reservation.
        payments: Explains attempts and refunds.
    """

    def __init__(self, *, database: Database, ledger: LedgerPort, payments: PaymentPort) -> None:
        self._database = database
        self._ledger = ledger
        self._payments = payments

    async def explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        """Returns an order with everything that moved because of it."""
        order_id = request.order_id
        with self._database.read() as connection:
            row = store.load_order(connection, order_id)
            if row is None:
                return pb.ExplainResponse(refusal=pb.REFUSAL_UNKNOWN_ORDER)
            shown = views.full_order(connection, row)
            steps = store.load_transitions(connection, order_id, limit=_STEPS_MAX + 1)
            returned = refunds.load_returns(connection, order_id)
        response = pb.ExplainResponse(order=shown)
        response.missing.extend(
            f"the ledger refused {each.units} returned units of {each.sku}: {each.last_refusal}"
            for each in returned
            if each.state == ReturnState.REFUSED
        )
        if len(steps) > _STEPS_MAX:
            response.missing.append(f"the order's moves after the first {_STEPS_MAX}")
        told = await asyncio.gather(
            self._of_ledger(order_id, response), self._of_payments(order_id, response)
        )
        moves = [views.transition(step) for step in steps[:_STEPS_MAX]]
        # Sorted stably: what has the same time stays in its own order, ledger before order.
        every = sorted([*told[0], *told[1], *moves], key=lambda step: step.time.ToMilliseconds())
        response.transitions.extend(every)
        return response

    async def _of_ledger(
        self, order_id: str, response: pb.ExplainResponse
    ) -> list[order_pb2.Transition]:
        """Returns the moves of the reservation, what the ledger asked of others among them."""
        try:
            reply = await self._ledger.admin.explain_reservation(order_id)
        except LastunitError as error:
            response.missing.append(f"the reservation: the ledger did not answer ({error})")
            return []
        if not reply.is_ok:
            response.missing.append(f"the reservation: the ledger says {reply.outcome.name}")
            return []
        if not reply.response.is_complete:
            response.missing.append(
                "the reservation's first moves: the ledger's journal begins with event"
                f" {reply.response.first_sequence}"
            )
        if len(reply.response.transitions) > _STEPS_MAX:
            response.missing.append(f"the reservation's moves after the first {_STEPS_MAX}")
        return [_of_reservation(order_id, move) for move in reply.response.transitions[:_STEPS_MAX]]

    async def _of_payments(
        self, order_id: str, response: pb.ExplainResponse
    ) -> list[order_pb2.Transition]:
        """Returns the moves of attempts and refunds, page by page."""
        found: list[order_pb2.Transition] = []
        token = ""
        while len(found) < _STEPS_MAX:
            request = payment_service_pb2.ListTransitionsRequest(
                order_id=order_id, page_size=_PAGE_MAX, page_token=token
            )
            try:
                page = await self._payments.list_transitions(request)
            except LastunitError as error:
                response.missing.append(
                    f"attempts and refunds: the payment service did not answer ({error})"
                )
                return found
            found.extend(map(_of_payment, page.transitions))
            token = page.next_page_token
            if not token:
                return found
        response.missing.append(f"moves of attempts and refunds after the first {len(found)}")
        return found


def _of_reservation(order_id: str, move: admin_pb.Transition) -> order_pb2.Transition:
    shown = order_pb2.Transition(
        entity=order_pb2.TRANSITION_ENTITY_RESERVATION,
        entity_id=order_id,
        event=move.event,
        state_from=State(move.state_from).name if move.state_from else "",
        state_to=State(move.state_to).name if move.state_to else "",
        cause=move.cause,
        actor=move.actor,
        reason=move.reason,
        ledger_sequence=move.sequence,
    )
    shown.time.CopyFrom(move.time)
    return shown


def _of_payment(move: payment_service_pb2.Transition) -> order_pb2.Transition:
    shown = order_pb2.Transition(
        entity=_ENTITIES.get(move.entity, order_pb2.TRANSITION_ENTITY_ATTEMPT),
        entity_id=move.refund_id or move.attempt_id,
        event=move.event,
        state_from=move.state_from,
        state_to=move.state_to,
        cause=move.cause,
        actor=move.actor,
    )
    shown.time.CopyFrom(move.time)
    return shown
