"""The payment service as plain steps: start, ask, settle, refund, follow.

Owns how the parts fit together and the service's answers as messages of `lastunit.payment.v1`.
Must not sleep or loop: `lastunit.payment.loops` does, or a simulation.
Next: `attempts` (what news means), `reconciler`, `teller`, `inbox`, `follower`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lastunit.payment import attempts, desk, outbox, refunds, transitions, views
from lastunit.payment.attempts import Fact, NewAttempt, StartResult, fact_from_provider
from lastunit.payment.bill_import import BillImporter
from lastunit.payment.follower import PaymentFollower
from lastunit.payment.inbox import InboxReader, InboxWorker
from lastunit.payment.incidents import Resolution, Resolving
from lastunit.payment.provider import ProviderRefusedError, ProviderUnavailableError
from lastunit.payment.providers import Providers
from lastunit.payment.reconciler import Reconciler
from lastunit.payment.refunder import Refunder
from lastunit.payment.refunds import NewRefund, RefundResult
from lastunit.payment.schedule import Schedule
from lastunit.payment.states import OPEN_STATES, AttemptState, News
from lastunit.payment.teller import Teller
from lastunit.payment.transitions import Cause
from lastunit.payment.v1 import payment_service_pb2 as pb
from lastunit.service.database import Lane

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    import sqlalchemy as sa

    from lastunit.payment.desk import ResolveResult
    from lastunit.payment.dialect import Dialect
    from lastunit.payment.ports import LedgerPort
    from lastunit.payment.provider import Provider
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["PaymentCore"]

CALLER_UNNAMED: Final = transitions.OWN_ACTOR
"""Who asks if the call does not say."""

_OPEN_NAMES: Final = tuple(state.value for state in OPEN_STATES)


class PaymentCore:
    """Is the payment service without its wires.

    Args:
        database: The payment service's own tables.
        inbox: The webhook's database; only read.
        ledger: A `StockClient`, or what stands in for it.
        providers: Who takes money, the preferred one first; 1 to 8.
        clock: Tells the time.
        settings: Spans and bounds.
        random: Spreads asks; seeded in a simulation.
        dialects: How providers word their callbacks, by name; ours for those that are not there.
        runner: Writes the database; None: the database's own writer.
    """

    def __init__(
        self,
        *,
        database: Database,
        inbox: Database,
        ledger: LedgerPort,
        providers: Sequence[Provider],
        clock: Clock,
        settings: PaymentSettings,
        random: random.Random,
        runner: TransactionRunner | None = None,
        dialects: Mapping[str, Dialect] | None = None,
    ) -> None:
        self._database = database
        self._runner: TransactionRunner = runner or database
        self.providers = Providers(providers, clock=clock, settings=settings)
        self._clock = clock
        self._settings = settings
        self._schedule = Schedule(settings, random)
        self._creates = asyncio.Semaphore(settings.creates_at_once_max)
        self._reconciler = Reconciler(
            database=database,
            runner=self._runner,
            providers=self.providers.by_name,
            clock=clock,
            schedule=self._schedule,
            settings=settings,
        )
        self._teller = Teller(
            database=database,
            runner=self._runner,
            ledger=ledger,
            clock=clock,
            schedule=self._schedule,
            settings=settings,
        )
        self._refunder = Refunder(
            database=database,
            runner=self._runner,
            providers=self.providers.by_name,
            clock=clock,
            schedule=self._schedule,
        )
        self._bills = BillImporter(
            database=database,
            runner=self._runner,
            providers=self.providers.by_name,
            clock=clock,
            schedule=self._schedule,
        )
        self._inbox = InboxWorker(
            database=database,
            runner=self._runner,
            reader=InboxReader(inbox),
            clock=clock,
            schedule=self._schedule,
            dialects=dialects or {},
        )
        self.follower = PaymentFollower(
            database=database,
            runner=self._runner,
            journal=ledger,
            clock=clock,
            provider=self.providers.first,
        )

    # --- steps of the loops ----------------------------------------------------------------

    async def process_inbox_once(self, limit: int = 256) -> int:
        """Acts on the next stored callbacks; returns how many there were."""
        return await self._inbox.process_once(limit)

    async def settle_once(self, limit: int = 256) -> int:
        """Tells the ledger of results that are due; returns how many were tried."""
        return await self._teller.settle_once(limit)

    async def refund_once(self, limit: int = 64) -> int:
        """Carries on with refunds that are due; returns how many were tried."""
        return await self._refunder.refund_once(limit)

    async def reconcile_once(self, now_ms: int, limit: int = 256) -> int:
        """Asks the provider for attempts that are due; returns how many were asked for."""
        return await self._reconciler.reconcile_once(now_ms, limit)

    async def follow_once(self, limit: int = 1_024) -> int:
        """Looks at the ledger's next events; returns how many there were."""
        return await self.follower.follow_once(limit)

    async def check_once(self) -> int:
        """Asks each provider for a sign of life; returns how many gave none.

        Writes down how the breakers have moved meanwhile, here or by calls.
        """
        silent_count = await self.providers.check_once()
        moves = self.providers.take_moves()

        def work(connection: sa.Connection) -> None:
            for move, cause, time_ms in moves:
                transitions.write(connection, move, Cause(cause), now_ms=time_ms)

        if moves:
            await self._runner.run(work)
        return silent_count

    def next_due_ms(self) -> int | None:
        """Returns when the next ask, settlement or refund is due, or None."""
        with self._database.read() as connection:
            tries = [outbox.next_try_ms(connection), refunds.next_try_ms(connection)]
        due = [self._reconciler.next_ask_ms(), *tries]
        return min((each for each in due if each is not None), default=None)

    # --- what the order service and operators call -------------------------------------------

    async def start_attempt(
        self, request: pb.StartAttemptRequest, *, caller: str = CALLER_UNNAMED
    ) -> pb.StartAttemptResponse:
        """Starts an attempt: written down first, then created at the provider.

        A repeat carries on where the first call stopped, so a crash in between heals.
        """
        provider = self._provider_for(request)
        if provider is None:
            return pb.StartAttemptResponse(refusal=pb.REFUSAL_PROVIDER_DOWN)
        wanted = NewAttempt(
            attempt_id=request.attempt_id,
            order_id=request.order_id,
            reservation_id=request.reservation_id,
            provider=provider,
            method=request.method,
            amount_minor=request.amount_minor,
            currency=request.currency,
            settle_by_ms=request.settle_by_time.ToMilliseconds(),
        )
        result = await self._write_start(wanted, caller)
        refused = _refused(result)
        if refused is not None:
            return refused
        row = result.row
        if row is None:
            raise AssertionError("a start is refused or has a row")
        if row.state in _OPEN_NAMES and not row.pay_url:
            row = await self._create(row)
        return pb.StartAttemptResponse(
            refusal=_refusal_of(row),
            replayed=not result.is_new,
            attempt=views.unrefunded_attempt(row),
        )

    async def get_attempt(self, request: pb.GetAttemptRequest) -> pb.GetAttemptResponse:
        """Shows an attempt."""
        attempt = self._view(request.attempt_id)
        if attempt is None:
            return pb.GetAttemptResponse(refusal=pb.REFUSAL_UNKNOWN_ATTEMPT)
        return pb.GetAttemptResponse(attempt=attempt)

    async def ask_now(self, request: pb.AskNowRequest) -> pb.AskNowResponse:
        """Asks the provider for one attempt now."""
        if self._view(request.attempt_id) is None:
            return pb.AskNowResponse(refusal=pb.REFUSAL_UNKNOWN_ATTEMPT)
        is_answered = await self._reconciler.ask_now(request.attempt_id)
        return pb.AskNowResponse(
            refusal=pb.REFUSAL_UNSPECIFIED if is_answered else pb.REFUSAL_PROVIDER_DOWN,
            attempt=self._view(request.attempt_id),
        )

    async def close_attempt(
        self, request: pb.CloseAttemptRequest, *, caller: str = CALLER_UNNAMED
    ) -> pb.CloseAttemptResponse:
        """Closes an attempt at the provider; without an answer it is tried until there is one."""
        now_ms = self._clock.now_ms()
        cause = Cause("call CloseAttempt", caller)

        def work(connection: sa.Connection) -> bool:
            return attempts.ask_soon(
                connection, request.attempt_id, cause, now_ms=now_ms, is_close_asked=True
            )

        if not await self._runner.run(work, lane=Lane.SETTLEMENT):
            return pb.CloseAttemptResponse(refusal=pb.REFUSAL_UNKNOWN_ATTEMPT)
        is_answered = await self._reconciler.ask_now(request.attempt_id)
        return pb.CloseAttemptResponse(
            refusal=pb.REFUSAL_UNSPECIFIED if is_answered else pb.REFUSAL_PROVIDER_DOWN,
            attempt=self._view(request.attempt_id),
        )

    async def refund_attempt(
        self, request: pb.RefundAttemptRequest, *, caller: str = CALLER_UNNAMED
    ) -> pb.RefundAttemptResponse:
        """Writes down that money of an attempt goes back, all that is left or a part.

        The units are not touched: who asks has to know what becomes of them.
        """
        now_ms = self._clock.now_ms()
        wanted = NewRefund(
            request_id=request.request_id,
            attempt_id=request.attempt_id,
            amount_minor=request.amount_minor,
            reason=request.reason,
            actor=request.actor or caller,
        )
        pause_ms = round(1_000 * self._settings.time_scale * self._settings.refund_ask_seconds[0])

        def work(connection: sa.Connection) -> RefundResult:
            return refunds.start(connection, wanted, now_ms=now_ms, retry_pause_ms=pause_ms)

        result = await self._runner.run(work, lane=Lane.SETTLEMENT)
        return pb.RefundAttemptResponse(
            refusal=pb.Refusal.Value(f"REFUSAL_{result.refusal or 'UNSPECIFIED'}"),
            conflict_field=result.conflict_field,
            attempt=self._view(request.attempt_id),
            refund=None if result.row is None else views.refund(result.row),
            replayed=result.row is not None and not result.is_new,
        )

    async def list_refunds(self, request: pb.ListRefundsRequest) -> pb.ListRefundsResponse:
        """Lists refunds, oldest first."""
        with self._database.read() as connection:
            return views.list_refunds(connection, request)

    async def list_transitions(
        self, request: pb.ListTransitionsRequest
    ) -> pb.ListTransitionsResponse:
        """Lists what happened to an order's attempts and refunds."""
        with self._database.read() as connection:
            return views.list_transitions(connection, request)

    async def list_attempts(self, request: pb.ListAttemptsRequest) -> pb.ListAttemptsResponse:
        """Lists attempts, oldest first."""
        with self._database.read() as connection:
            return views.list_attempts(connection, request)

    async def list_orphans(self, request: pb.ListOrphansRequest) -> pb.ListOrphansResponse:
        """Lists news of attempts nobody started, oldest first."""
        with self._database.read() as connection:
            return views.list_orphans(connection, request)

    async def list_incidents(self, request: pb.ListIncidentsRequest) -> pb.ListIncidentsResponse:
        """Lists what a human has to look at, or had."""
        with self._database.read() as connection:
            return views.list_incidents(connection, request)

    async def resolve_incident(
        self, request: pb.ResolveIncidentRequest
    ) -> pb.ResolveIncidentResponse:
        """Carries out what a human decides."""
        name = pb.IncidentResolution.Name(request.resolution)
        resolving = Resolving(
            request_id=request.request_id,
            incident_id=request.incident_id,
            resolution=Resolution(name.removeprefix("INCIDENT_RESOLUTION_")),
            actor=request.actor,
            reason=request.reason,
        )
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> ResolveResult:
            return desk.resolve(connection, resolving, now_ms=now_ms, schedule=self._schedule)

        result = await self._runner.run(work, lane=Lane.SETTLEMENT)
        return pb.ResolveIncidentResponse(
            refusal=pb.Refusal.Value(f"REFUSAL_{result.refusal or 'UNSPECIFIED'}"),
            incident=None if result.row is None else views.incident(result.row),
            conflict_field=result.conflict_field,
            replayed=result.is_replayed,
        )

    async def reprocess_callback(
        self, request: pb.ReprocessCallbackRequest
    ) -> pb.ReprocessCallbackResponse:
        """Acts once more on a stored callback."""
        found = await self._inbox.reprocess(request.provider, request.event_id)
        if found is None:
            return pb.ReprocessCallbackResponse(refusal=pb.REFUSAL_UNKNOWN_CALLBACK)
        response = pb.ReprocessCallbackResponse(attempt=self._view(found[1]))
        response.receive_time.FromMilliseconds(found[0])
        return response

    async def import_bill(
        self, request: pb.ImportBillRequest, *, caller: str = CALLER_UNNAMED
    ) -> pb.ImportBillResponse:
        """Compares a page of a bill with the books."""
        return await self._bills.take_page(request, request.actor or caller)

    async def list_providers(self, _request: pb.ListProvidersRequest) -> pb.ListProvidersResponse:
        """Shows the providers and their breakers, the preferred one first."""
        return pb.ListProvidersResponse(
            providers=[
                views.provider(name, breaker) for name, breaker in self.providers.breakers.items()
            ]
        )

    async def get_totals(self, _request: pb.GetTotalsRequest) -> pb.GetTotalsResponse:
        """Sums up what there is."""
        with self._database.read() as connection:
            counters = views.totals(connection, self._clock.now_ms())
        return pb.GetTotalsResponse(counters=counters)

    # --- inside ----------------------------------------------------------------------------

    def _provider_for(self, request: pb.StartAttemptRequest) -> str | None:
        """Returns who gets an attempt, or None if nobody may.

        A repeat stays with the provider that it has, and so does an order with an attempt that may
        still be paid: two providers must never be able to take money for it at once.
        """
        with self._database.read() as connection:
            found = attempts.load(connection, request.attempt_id)
            taken = attempts.open_provider(connection, request.order_id)
        if found is not None:
            return request.provider or str(found.provider)
        return self.providers.choose(request.provider or taken or "")

    async def _write_start(self, wanted: NewAttempt, caller: str) -> StartResult:
        now_ms = self._clock.now_ms()
        first_ask_ms = self._schedule.next_ask_ms(
            start_ms=now_ms, settle_by_ms=wanted.settle_by_ms, now_ms=now_ms, is_created=False
        )

        def work(connection: sa.Connection) -> StartResult:
            return attempts.start(
                connection,
                wanted,
                now_ms=now_ms,
                first_ask_ms=first_ask_ms,
                attempts_max=self._settings.attempts_per_order_max,
                actor=caller,
            )

        return await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _create(self, row: sa.Row[Any]) -> sa.Row[Any]:
        """Calls the provider and writes its answer down; returns the attempt as it then is."""
        order = attempts.order_of(row)
        try:
            async with self._creates:
                created = await self.providers.by_name[row.provider].create(order)
            fact = fact_from_provider(News.CREATED, "create", created)
        except ProviderRefusedError as error:
            fact = Fact(news=News.REFUSED, source="create", failure_code=error.code)
        except ProviderUnavailableError:
            fact = Fact(news=News.NO_ANSWER, source="create")
        self.providers.note_call(row.provider, is_well=fact.news is News.CREATED)
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> sa.Row[Any]:
            attempts.record(
                connection, row.attempt_id, fact, now_ms=now_ms, schedule=self._schedule
            )
            written = attempts.load(connection, row.attempt_id)
            if written is None:
                raise AssertionError(f"attempt {row.attempt_id} was written and is gone")
            return written

        return await self._runner.run(work, lane=Lane.SETTLEMENT)

    def _view(self, attempt_id: str) -> pb.Attempt | None:
        with self._database.read() as connection:
            row = attempts.load(connection, attempt_id)
            if row is None:
                return None
            return views.attempt(connection, row)


def _refused(result: StartResult) -> pb.StartAttemptResponse | None:
    if result.is_too_many:
        return pb.StartAttemptResponse(refusal=pb.REFUSAL_TOO_MANY_ATTEMPTS)
    if result.is_other_provider_open:
        return pb.StartAttemptResponse(refusal=pb.REFUSAL_OTHER_PROVIDER_OPEN)
    if result.conflict_field:
        return pb.StartAttemptResponse(
            refusal=pb.REFUSAL_CONFLICT, conflict_field=result.conflict_field
        )
    if result.row is not None and result.row.amount_minor == 0:
        return pb.StartAttemptResponse(refusal=pb.REFUSAL_ALREADY_CLOSED)
    return None


def _refusal_of(row: sa.Row[Any]) -> pb.Refusal.ValueType:
    """Returns what the order service is told of an attempt that was written down."""
    match AttemptState(row.state):
        case AttemptState.FAILED:
            return pb.REFUSAL_PROVIDER_REFUSED
        case AttemptState.CANCELLED:
            return pb.REFUSAL_ALREADY_CLOSED
        case AttemptState.UNKNOWN | AttemptState.INIT:
            return pb.REFUSAL_PROVIDER_DOWN
        case AttemptState.OPEN | AttemptState.SUCCEEDED | AttemptState.QUARANTINED:
            return pb.REFUSAL_UNSPECIFIED
