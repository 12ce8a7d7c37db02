"""The sandbox provider as a plain object: attempts, money, refunds and the bill.

Owns what the pretended provider knows. Must not sleep, send or read a real clock: time comes from
a `Clock`, chance from a seed, and callbacks are handed out when they are due.
Next: `callbacks` (what is sent), `in_process` and `app` (how it is reached).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lastunit.payment.provider import (
    BillLine,
    BillLineKind,
    BillPage,
    CloseAnswer,
    CloseStatus,
    CreateOrder,
    ProviderAttempt,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
    RefundAnswer,
    RefundStatus,
)
from lastunit.payment.sandbox.callbacks import CallbackQueue, Delivery
from lastunit.payment.sandbox.knobs import Operation, SandboxKnobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.service.clock import Clock

__all__ = ["BillRow", "PayAnswer", "SandboxCore"]

# Everything is kept in memory, so there is an end to it; a sale has thousands.
ATTEMPTS_MAX: Final = 1_000_000

DELIVERIES_TAKEN_MAX: Final = 10_000


class PayAnswer(StrEnum):
    """What a buyer sees who tries to pay."""

    PAID = "PAID"
    ALREADY_PAID = "ALREADY_PAID"
    CLOSED = "CLOSED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class BillRow:
    """Is one line of the bill: one attempt that took money.

    Attributes:
        merchant_no: Our number, the attempt's id.
        provider_no: The provider's number.
        amount_minor: What the buyer paid, minor units.
        refunded_minor: What was given back of it, minor units.
        currency: ISO 4217.
        paid_ms: When it was paid, milliseconds since the epoch.
    """

    merchant_no: str
    provider_no: str
    amount_minor: int
    refunded_minor: int
    currency: str
    paid_ms: int


@dataclass(frozen=True, slots=True)
class _Refund:
    """Is one refund: what goes back, and when it is over, well or not."""

    amount_minor: int
    over_ms: int
    is_failing: bool

    def status(self, now_ms: int) -> RefundStatus:
        if now_ms < self.over_ms:
            return RefundStatus.PENDING
        return RefundStatus.FAILED if self.is_failing else RefundStatus.DONE


@dataclass(slots=True)
class _Account:
    """Is what the provider keeps of one attempt."""

    order: CreateOrder
    provider_no: str
    status: ProviderStatus
    create_ms: int
    occurred_ms: int
    state_version: int = 1
    failure_code: str = ""
    paid_ms: int = 0
    refunds: dict[str, _Refund] = field(default_factory=dict)

    def refunded_minor(self, now_ms: int) -> int:
        """Returns what is back, minor units."""
        return self._sum(now_ms, RefundStatus.DONE)

    def left_minor(self, now_ms: int) -> int:
        """Returns what may still be asked back: what is under way counts as gone."""
        gone = self._sum(now_ms, RefundStatus.DONE) + self._sum(now_ms, RefundStatus.PENDING)
        return self.order.amount_minor - gone

    def bill_lines(self, now_ms: int) -> list[BillLine]:
        """Returns the payment, if there was one, and the refunds that are done."""
        if not self.paid_ms:
            return []
        number, currency = self.order.merchant_no, self.order.currency
        paid = BillLine(
            BillLineKind.PAYMENT,
            number,
            self.provider_no,
            self.order.amount_minor,
            currency,
            self.paid_ms,
        )
        back = [
            BillLine(
                BillLineKind.REFUND,
                number,
                f"r-{key}",
                refund.amount_minor,
                currency,
                refund.over_ms,
                refund_key=key,
            )
            for key, refund in self.refunds.items()
            if refund.status(now_ms) is RefundStatus.DONE
        ]
        return [paid, *back]

    def _sum(self, now_ms: int, status: RefundStatus) -> int:
        return sum(
            each.amount_minor for each in self.refunds.values() if each.status(now_ms) is status
        )


def _place(line: BillLine) -> str:
    """Returns where a line stands in the bill; it never changes."""
    return f"{line.occurred_ms:015d} {line.kind} {line.merchant_no} {line.refund_key}"


class SandboxCore:
    """Is a provider whose money is pretended and whose faults are chosen.

    Args:
        clock: Tells the time.
        key: Secret that signs callbacks, 16 bytes or more.
        seed: Random seed of every fault; the same seed and calls give the same run.
        knobs: The faults to begin with.
        pay_url_prefix: Put before `/v1/pay/{provider_no}` in pay URLs.

    Attributes:
        knobs: The faults as they stand; set anew at any time.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        key: bytes,
        seed: int = 1,
        knobs: SandboxKnobs | None = None,
        pay_url_prefix: str = "http://sandbox.invalid",
    ) -> None:
        self.knobs = knobs or SandboxKnobs()
        self.pay_url_prefix = pay_url_prefix
        self._clock = clock
        self._start_ms = clock.now_ms()
        # Faults of pretended money need no secret randomness, they need to repeat.
        self._random = random.Random(seed)  # noqa: S311
        self._callbacks = CallbackQueue(clock, self._random, key=key)
        self._by_merchant_no: dict[str, _Account] = {}
        self._by_provider_no: dict[str, _Account] = {}
        self._event_count = 0

    # --- what a merchant calls -------------------------------------------------------------

    def create(self, order: CreateOrder) -> ProviderAttempt:
        """Makes an attempt payable; a repeat returns it as it stands.

        Raises:
            ProviderUnavailableError: Down, or done and not answered.
            ProviderRefusedError: Same number with other content, closed before, or full.
        """
        self._check_up(Operation.CREATE)
        account = self._by_merchant_no.get(order.merchant_no)
        if account is None:
            account = self._open(order)
        elif account.status is ProviderStatus.CLOSED:
            raise ProviderRefusedError("this number is closed", code="CLOSED")
        elif account.order != order:
            raise ProviderRefusedError("this number has other content", code="CONFLICT")
        silence = self.knobs.create_silence_probability
        if silence > 0 and self._random.random() < silence:
            raise ProviderUnavailableError("the sandbox acted and does not answer")
        return self._view(account)

    def query(self, merchant_no: str) -> ProviderAttempt | None:
        """Returns the attempt as it stands; None if the number is unknown.

        Raises:
            ProviderUnavailableError: Down.
        """
        self._check_up(Operation.QUERY)
        account = self._by_merchant_no.get(merchant_no)
        return None if account is None else self._view(account)

    def close(self, merchant_no: str) -> CloseAnswer:
        """Shuts an attempt for ever; a number that was never created is barred.

        Raises:
            ProviderUnavailableError: Down.
        """
        self._check_up(Operation.CLOSE)
        account = self._by_merchant_no.get(merchant_no)
        if account is None:
            barred = CreateOrder(merchant_no, method="", amount_minor=0, currency="")
            account = self._open(barred)
            self._move(account, ProviderStatus.CLOSED)
        if account.status is ProviderStatus.PAID:
            return CloseAnswer(CloseStatus.PAID, self._view(account), "paid already")
        if account.status is not ProviderStatus.CLOSED:
            age_ms = self._clock.now_ms() - account.create_ms
            if age_ms < self.knobs.close_age_ms_min:
                return CloseAnswer(CloseStatus.NOT_NOW, self._view(account), "too young to close")
            self._move(account, ProviderStatus.CLOSED)
            self._announce(account, "payment.closed")
        return CloseAnswer(CloseStatus.CLOSED, self._view(account))

    def refund(
        self, merchant_no: str, *, amount_minor: int, currency: str, refund_key: str
    ) -> RefundAnswer:
        """Gives money back once for each key.

        Args:
            merchant_no: The attempt that was paid.
            amount_minor: Minor units, 1 or more.
            currency: Must be the attempt's.
            refund_key: Idempotency key; a repeat is one refund.

        Raises:
            ProviderUnavailableError: Down.
        """
        self._check_up(Operation.REFUND)
        now_ms = self._clock.now_ms()
        account = self._by_merchant_no.get(merchant_no)
        refund_no = f"r-{refund_key}"
        if account is None or account.status is not ProviderStatus.PAID:
            return RefundAnswer(RefundStatus.FAILED, refund_no, "not paid")
        known = account.refunds.get(refund_key)
        if known is None:
            if self.knobs.is_refund_refused or currency != account.order.currency:
                return RefundAnswer(RefundStatus.FAILED, refund_no, "refused")
            left_minor = account.left_minor(now_ms)
            if not 1 <= amount_minor <= left_minor:
                return RefundAnswer(RefundStatus.FAILED, refund_no, f"{left_minor} left to refund")
            over_ms = now_ms + self.knobs.refund_delay_ms
            known = _Refund(amount_minor, over_ms, self.knobs.is_refund_failing)
            account.refunds[refund_key] = known
            self._announce_refund(account, refund_key, known)
        status = known.status(now_ms)
        detail = "the bank sent it back" if status is RefundStatus.FAILED else ""
        over_ms = 0 if status is RefundStatus.PENDING else known.over_ms
        return RefundAnswer(status, refund_no, detail, over_ms)

    def bill(self) -> Sequence[BillRow]:
        """Returns every attempt that took money, in the order of our numbers."""
        return [
            BillRow(
                merchant_no=merchant_no,
                provider_no=account.provider_no,
                amount_minor=account.order.amount_minor,
                refunded_minor=account.refunded_minor(self._clock.now_ms()),
                currency=account.order.currency,
                paid_ms=account.paid_ms,
            )
            for merchant_no, account in sorted(self._by_merchant_no.items())
            if account.paid_ms
        ]

    def bill_page(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Returns a page of what came and went in a span, oldest first.

        Args:
            from_ms: First millisecond of the span.
            to_ms: First one after it.
            cursor: As the page before gave it; empty for the first one.
            limit: At most so many lines, 1 or more.

        Raises:
            ProviderUnavailableError: Down.
        """
        self._check_up(Operation.BILL)
        lines = [
            line
            for account in self._by_merchant_no.values()
            for line in account.bill_lines(self._clock.now_ms())
            if from_ms <= line.occurred_ms < to_ms and _place(line) > cursor
        ]
        lines.sort(key=_place)
        page = tuple(lines[:limit])
        return BillPage(page, _place(page[-1]) if len(lines) > len(page) else "")

    # --- what a buyer does -----------------------------------------------------------------

    def pay(self, number: str) -> PayAnswer:
        """Takes the buyer's money; after a failure the buyer may try again.

        Args:
            number: The provider's number or ours.
        """
        account = self._find(number)
        if account is None:
            return PayAnswer.UNKNOWN
        if account.status is ProviderStatus.PAID:
            return PayAnswer.ALREADY_PAID
        if account.status is ProviderStatus.CLOSED and not self._takes_money_after_close(account):
            return PayAnswer.CLOSED
        if 0 < account.order.expire_ms < self._clock.now_ms():
            return PayAnswer.EXPIRED
        self._move(account, ProviderStatus.PAID)
        account.paid_ms = account.occurred_ms
        account.failure_code = ""
        self._announce(account, "payment.succeeded")
        return PayAnswer.PAID

    def fail(self, number: str, *, code: str = "DECLINED") -> bool:
        """Lets a payment fail; returns False if it cannot any more.

        Args:
            number: The provider's number or ours.
            code: The provider's code, 1 to 64 bytes.
        """
        account = self._find(number)
        if account is None or account.status is not ProviderStatus.PENDING:
            return False
        self._move(account, ProviderStatus.FAILED)
        account.failure_code = code
        self._announce(account, "payment.failed")
        return True

    # --- callbacks -------------------------------------------------------------------------

    def next_delivery_ms(self) -> int | None:
        """Returns when the next callback is due, milliseconds since the epoch; None if none."""
        return self._callbacks.next_ms()

    def deliveries_due(
        self, now_ms: int, *, limit: int = DELIVERIES_TAKEN_MAX
    ) -> Sequence[Delivery]:
        """Takes the callbacks that are due; post each, and report those without a 200.

        Args:
            now_ms: The time, milliseconds since the epoch.
            limit: At most so many, 1 or more.
        """
        return self._callbacks.take_due(now_ms, limit, self.knobs)

    def delivery_failed(self, delivery: Delivery) -> None:
        """Queues a callback again that was not answered with 200."""
        self._callbacks.failed(delivery, self.knobs)

    def totals(self) -> dict[str, int]:
        """Returns counts by name: attempts, paid, closed, callbacks queued, lost, given up."""
        statuses = [account.status for account in self._by_merchant_no.values()]
        return {
            "attempt_count": len(statuses),
            "paid_count": statuses.count(ProviderStatus.PAID),
            "closed_count": statuses.count(ProviderStatus.CLOSED),
            "callback_queued_count": len(self._callbacks),
            "callback_lost_count": self._callbacks.lost_count,
            "callback_given_up_count": self._callbacks.given_up_count,
        }

    # --- inside ----------------------------------------------------------------------------

    def _check_up(self, operation: Operation) -> None:
        offset_ms = self._clock.now_ms() - self._start_ms
        if self.knobs.down_until_ms(operation, offset_ms) is not None:
            raise ProviderUnavailableError(f"the sandbox does not answer {operation}")

    def _takes_money_after_close(self, account: _Account) -> bool:
        return self.knobs.takes_money_after_close and account.order.amount_minor > 0

    def _find(self, number: str) -> _Account | None:
        return self._by_provider_no.get(number) or self._by_merchant_no.get(number)

    def _open(self, order: CreateOrder) -> _Account:
        if len(self._by_merchant_no) >= ATTEMPTS_MAX:
            raise ProviderRefusedError(f"the sandbox holds {ATTEMPTS_MAX} attempts", code="FULL")
        now_ms = self._clock.now_ms()
        account = _Account(
            order=order,
            provider_no=f"sandbox-{len(self._by_merchant_no) + 1}",
            status=ProviderStatus.PENDING,
            create_ms=now_ms,
            occurred_ms=now_ms,
        )
        self._by_merchant_no[order.merchant_no] = account
        self._by_provider_no[account.provider_no] = account
        return account

    def _move(self, account: _Account, status: ProviderStatus) -> None:
        account.status = status
        account.occurred_ms = self._clock.now_ms()
        account.state_version += 1

    def _announce(self, account: _Account, kind: str) -> None:
        self._callbacks.announce(self._next_event_id(), self._body(account, kind), self.knobs)

    def _announce_refund(self, account: _Account, refund_key: str, refund: _Refund) -> None:
        account.state_version += 1
        kind = "refund.failed" if refund.is_failing else "refund.succeeded"
        body = self._body(account, kind) | {
            "amount_minor": refund.amount_minor,
            "occurred_at": refund.over_ms,
            "failure_code": "RETURNED" if refund.is_failing else "",
            "refund_key": refund_key,
            "refund_no": f"r-{refund_key}",
        }
        wait_ms = self.knobs.refund_delay_ms
        self._callbacks.announce(self._next_event_id(), body, self.knobs, wait_ms=wait_ms)

    def _next_event_id(self) -> str:
        self._event_count += 1
        return f"e-{self._event_count}"

    def _body(self, account: _Account, kind: str) -> dict[str, object]:
        return {
            "type": kind,
            "merchant_no": account.order.merchant_no,
            "provider_no": account.provider_no,
            "amount_minor": account.order.amount_minor,
            "currency": account.order.currency,
            "occurred_at": account.occurred_ms,
            "state_version": account.state_version,
            "failure_code": account.failure_code,
        }

    def _view(self, account: _Account) -> ProviderAttempt:
        return ProviderAttempt(
            merchant_no=account.order.merchant_no,
            provider_no=account.provider_no,
            status=account.status,
            amount_minor=account.order.amount_minor,
            currency=account.order.currency,
            pay_url=f"{self.pay_url_prefix}/v1/pay/{account.provider_no}",
            occurred_ms=account.occurred_ms,
            state_version=account.state_version,
            failure_code=account.failure_code,
        )
