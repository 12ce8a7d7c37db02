"""What every adapter of a provider has to do, on each of them over real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import stripe

from lastunit.payment import stripe_provider
from lastunit.payment.adapters import open_dialect, open_provider, parse_spec
from lastunit.payment.callback import CallbackKind, MalformedCallbackError
from lastunit.payment.http_provider import CONNECTIONS_MAX, HttpProvider
from lastunit.payment.http_server import HttpServer
from lastunit.payment.provider import (
    BillLineKind,
    CloseStatus,
    CreateOrder,
    Known,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
    RefundStatus,
)
from lastunit.payment.sandbox.app import sandbox_app
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.stripe_provider import StripeProvider
from lastunit.service.clock import SimulatedClock

from .stripe_api import API_KEY, NOW_SECONDS, StripeApi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit.payment.adapters import OpenedProvider
    from lastunit.payment.provider import BillLine

# Stripe's library hands its form to httpx under a name that httpx would rather not have used.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NOW_MS = NOW_SECONDS * 1_000
DAY_MS = 86_400_000
ORDER = CreateOrder("order-1:1", "card", 84_000, "EUR", NOW_MS + 900_000)


class Desk(Protocol):
    """Is the other side of an adapter: its buyers and its faults."""

    provider: OpenedProvider
    stranger: OpenedProvider

    def pay(self, provider_no: str) -> None:
        """Lets a buyer pay."""

    def fail(self, provider_no: str) -> None:
        """Lets a payment fail."""

    def make_busy(self, provider_no: str) -> None:
        """Makes a close be refused for now."""

    def set_down(self, *, is_down: bool) -> None:
        """Begins or ends an outage."""

    def lose_next_create(self) -> None:
        """Lets the next create call be done and not answered."""

    def set_refunds_pending(self, *, is_pending: bool) -> None:
        """Leaves refunds under way, or ends them."""


class SandboxDesk:
    """The sandbox over HTTP."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(NOW_MS)
        self.core = SandboxCore(self.clock, key=b"a key of sixteen bytes")
        self.app = sandbox_app(self.core, api_key=API_KEY)

    def connect(self, url: str) -> None:
        """Makes the adapters."""
        self.provider = HttpProvider(url, api_key=API_KEY)
        self.stranger = HttpProvider(url, api_key="another")

    def _turn(self, **knobs: Any) -> None:
        self.core.knobs = self.core.knobs.changed(knobs)

    def pay(self, provider_no: str) -> None:
        """Pays."""
        assert self.core.pay(provider_no) == "PAID"

    def fail(self, provider_no: str) -> None:
        """Fails."""
        assert self.core.fail(provider_no)

    def make_busy(self, provider_no: str) -> None:
        """Is too young to close."""
        self._turn(close_age_ms_min=300_000)

    def set_down(self, *, is_down: bool) -> None:
        """Every operation is down."""
        outages = tuple(Outage(each, 0, DAY_MS) for each in Operation) if is_down else ()
        self.core.knobs = SandboxKnobs(outages=outages)

    def lose_next_create(self) -> None:
        """Acts and does not answer; the calls that follow are answered."""
        self._turn(create_silence_probability=1)

    def set_refunds_pending(self, *, is_pending: bool) -> None:
        """Takes a second."""
        self._turn(refund_delay_ms=1_000)
        if not is_pending:
            self.clock.advance_to(NOW_MS + 2_000)


class StripeDesk:
    """A server in the shape of Stripe's API."""

    def __init__(self) -> None:
        self.api = StripeApi()
        self.app = self.api.app()

    def connect(self, url: str) -> None:
        """Makes the adapters."""
        words = {"return_url": "https://shop.example/paid", "base_url": url}
        self.provider = StripeProvider(API_KEY, **words)
        self.stranger = StripeProvider("sk_test_another", **words)

    def pay(self, provider_no: str) -> None:
        """Pays."""
        self.api.pay(provider_no)

    def fail(self, provider_no: str) -> None:
        """Fails."""
        self.api.pay(provider_no, is_failed=True)

    def make_busy(self, provider_no: str) -> None:
        """A slow payment is under way."""
        self.api.pay(provider_no, is_slow=True)

    def set_down(self, *, is_down: bool) -> None:
        """Answers 500."""
        self.api.is_down = is_down

    def lose_next_create(self) -> None:
        """Acts and answers with a page of a proxy."""
        self.api.silent_creates = 1

    def set_refunds_pending(self, *, is_pending: bool) -> None:
        """Takes a while."""
        self.api.is_refund_pending = is_pending
        for refund in self.api.refunds.values():
            refund["status"] = "pending" if is_pending else "succeeded"


@pytest.fixture(params=[SandboxDesk, StripeDesk], ids=["sandbox", "stripe"])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Each kind of provider, on a real port."""
    made = request.param()
    server = HttpServer(made.app, listen="127.0.0.1:0")
    address = await server.start()
    made.connect(f"http://{address}")
    yield made
    await made.provider.aclose()
    await made.stranger.aclose()
    await server.stop()


async def test_an_attempt_is_made_once_and_can_be_paid(desk: Desk) -> None:
    """Created twice it is one attempt with a page to pay at."""
    first = await desk.provider.create(ORDER)
    second = await desk.provider.create(ORDER)

    assert first == second
    assert (first.status, first.amount_minor, first.currency) == (
        ProviderStatus.PENDING,
        84_000,
        "EUR",
    )
    assert first.pay_url.startswith("http")


async def test_the_same_number_with_other_content_is_refused(desk: Desk) -> None:
    """It is a conflict, and what was made first stays."""
    made = await desk.provider.create(ORDER)
    with pytest.raises(ProviderRefusedError):
        await desk.provider.create(CreateOrder("order-1:1", "card", 1, "EUR", NOW_MS + 900_000))
    asked = await desk.provider.query("order-1:1", known=Known(made.provider_no, ORDER))

    assert asked is not None
    assert asked.amount_minor == 84_000


async def test_money_is_found_by_asking(desk: Desk) -> None:
    """PENDING, then PAID with amount, currency and the time of the payment."""
    made = await desk.provider.create(ORDER)
    known = Known(made.provider_no, ORDER)
    before = await desk.provider.query("order-1:1", known=known)
    desk.pay(made.provider_no)
    after = await desk.provider.query("order-1:1", known=known)

    assert before is not None
    assert after is not None
    assert [before.status, after.status] == [ProviderStatus.PENDING, ProviderStatus.PAID]
    assert (after.amount_minor, after.currency, after.occurred_ms) == (84_000, "EUR", NOW_MS)
    assert after.state_version > before.state_version


async def test_a_failure_is_told_with_its_code(desk: Desk) -> None:
    """FAILED is definite, and says why."""
    made = await desk.provider.create(ORDER)
    desk.fail(made.provider_no)
    asked = await desk.provider.query("order-1:1", known=Known(made.provider_no, ORDER))

    assert asked is not None
    assert asked.status is ProviderStatus.FAILED
    assert asked.failure_code.upper().endswith("DECLINED")


async def test_a_number_that_nobody_has_is_not_found(desk: Desk) -> None:
    """So is the one that the health check asks for."""
    assert await desk.provider.query("health-check") is None


async def test_a_lost_answer_is_found_again_by_our_number(desk: Desk) -> None:
    """The create call was done and not answered: asking finds the attempt, which is one."""
    desk.lose_next_create()
    with pytest.raises(ProviderUnavailableError):
        await desk.provider.create(ORDER)
    found = await desk.provider.query("order-1:1", known=Known("", ORDER))

    assert found is not None
    assert (found.status, found.amount_minor) == (ProviderStatus.PENDING, 84_000)


async def test_a_closed_attempt_can_never_be_made_payable(desk: Desk) -> None:
    """Closed twice it is closed, and creating it again is refused or shows it closed."""
    made = await desk.provider.create(ORDER)
    known = Known(made.provider_no, ORDER)
    answers = [await desk.provider.close("order-1:1", known=known) for _ in range(2)]
    asked = await desk.provider.query("order-1:1", known=known)

    assert [each.status for each in answers] == [CloseStatus.CLOSED, CloseStatus.CLOSED]
    assert asked is not None
    assert asked.status is ProviderStatus.CLOSED


async def test_what_was_never_made_is_closed(desk: Desk) -> None:
    """A number that the ledger knows and nobody has started."""
    answer = await desk.provider.close("order-9:1", known=Known())

    assert (answer.status, answer.attempt.status) == (CloseStatus.CLOSED, ProviderStatus.CLOSED)


async def test_a_paid_attempt_is_not_closed(desk: Desk) -> None:
    """Paid between the ask and the close: the answer has the money's facts."""
    made = await desk.provider.create(ORDER)
    desk.pay(made.provider_no)
    answer = await desk.provider.close("order-1:1", known=Known(made.provider_no, ORDER))

    assert answer.status is CloseStatus.PAID
    assert (answer.attempt.status, answer.attempt.amount_minor) == (ProviderStatus.PAID, 84_000)


async def test_a_close_that_cannot_be_now_is_said(desk: Desk) -> None:
    """Too young, or a payment under way: neither closed nor paid."""
    made = await desk.provider.create(ORDER)
    desk.make_busy(made.provider_no)
    answer = await desk.provider.close("order-1:1", known=Known(made.provider_no, ORDER))

    assert answer.status is CloseStatus.NOT_NOW


async def test_a_refund_is_one_by_its_key_and_never_too_much(desk: Desk) -> None:
    """A part twice with one key is one; the rest goes back; one more is refused."""
    made = await desk.provider.create(ORDER)
    desk.pay(made.provider_no)
    known = Known(made.provider_no, ORDER)

    async def back(key: str, amount_minor: int) -> RefundStatus:
        answer = await desk.provider.refund(
            "order-1:1", amount_minor=amount_minor, currency="EUR", refund_key=key, known=known
        )
        return answer.status

    assert [
        await back("r-a", 4_000),
        await back("r-a", 4_000),
        await back("r-b", 80_000),
        await back("r-c", 1),
    ] == [RefundStatus.DONE, RefundStatus.DONE, RefundStatus.DONE, RefundStatus.FAILED]


async def test_a_refund_under_way_is_asked_for_until_it_is_done(desk: Desk) -> None:
    """PENDING, and the same call with what is known of it answers DONE later."""
    made = await desk.provider.create(ORDER)
    desk.pay(made.provider_no)
    desk.set_refunds_pending(is_pending=True)
    words: dict[str, Any] = {"amount_minor": 4_000, "currency": "EUR", "refund_key": "r-a"}
    first = await desk.provider.refund("order-1:1", known=Known(made.provider_no, ORDER), **words)
    desk.set_refunds_pending(is_pending=False)
    known = Known(made.provider_no, ORDER, first.refund_no)
    second = await desk.provider.refund("order-1:1", known=known, **words)

    assert [first.status, second.status] == [RefundStatus.PENDING, RefundStatus.DONE]


async def test_money_that_never_came_cannot_go_back(desk: Desk) -> None:
    """An open attempt has nothing to refund."""
    made = await desk.provider.create(ORDER)
    answer = await desk.provider.refund(
        "order-1:1",
        amount_minor=1,
        currency="EUR",
        refund_key="r-a",
        known=Known(made.provider_no, ORDER),
    )

    assert answer.status is RefundStatus.FAILED


async def _calls(provider: OpenedProvider, known: Known) -> list[BaseException]:
    """Makes one call of each kind; returns what each raised."""
    raised: list[BaseException] = []
    for call in (
        lambda: provider.create(ORDER),
        lambda: provider.query("order-1:1", known=known),
        lambda: provider.close("order-1:1", known=known),
        lambda: provider.refund(
            "order-1:1", amount_minor=1, currency="EUR", refund_key="r", known=known
        ),
        lambda: provider.bill(0, DAY_MS, cursor="", limit=10),
    ):
        try:
            await call()
        except Exception as error:  # noqa: BLE001 - the test looks at what it is
            raised.append(error)
    return raised


async def test_an_outage_is_no_answer_and_nothing_else(desk: Desk) -> None:
    """Every call says so, none takes it for a no, and afterwards all goes on."""
    made = await desk.provider.create(ORDER)
    known = Known(made.provider_no, ORDER)
    desk.set_down(is_down=True)
    raised = await _calls(desk.provider, known)
    desk.set_down(is_down=False)

    assert [type(each) for each in raised] == [ProviderUnavailableError] * 5
    assert await desk.provider.query("order-1:1", known=known) is not None


async def test_a_bad_key_is_no_verdict_on_a_payment(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is taken for refused or not found, and no key is in a text or a log."""
    caplog.set_level(logging.DEBUG)
    made = await desk.provider.create(ORDER)
    raised = await _calls(desk.stranger, Known(made.provider_no, ORDER))

    assert [type(each) for each in raised] == [ProviderUnavailableError] * 5
    told = caplog.text + "".join(map(repr, raised))
    assert API_KEY not in told
    assert "sk_test_another" not in told


async def test_the_bill_has_what_came_and_went(desk: Desk, monkeypatch: Any) -> None:
    """Payments and refunds of the span, page by page, with our numbers and keys."""
    monkeypatch.setattr(stripe_provider, "PAGE_ROWS_MAX", 2)
    for number in range(3):
        order = CreateOrder(f"order-{number}:1", "card", 1_000, "EUR", NOW_MS + 900_000)
        made = await desk.provider.create(order)
        desk.pay(made.provider_no)
    await desk.provider.refund(
        "order-2:1",
        amount_minor=400,
        currency="EUR",
        refund_key="r-a",
        known=Known(made.provider_no, order),
    )
    lines: list[BillLine] = []
    cursor = ""
    while True:
        page = await desk.provider.bill(NOW_MS, NOW_MS + DAY_MS, cursor=cursor, limit=2)
        lines += page.lines
        cursor = page.next_cursor
        if not cursor:
            break
    empty = await desk.provider.bill(NOW_MS + DAY_MS, NOW_MS + 2 * DAY_MS, cursor="", limit=2)

    assert sorted((each.kind, each.merchant_no, each.amount_minor) for each in lines) == [
        (BillLineKind.PAYMENT, "order-0:1", 1_000),
        (BillLineKind.PAYMENT, "order-1:1", 1_000),
        (BillLineKind.PAYMENT, "order-2:1", 1_000),
        (BillLineKind.REFUND, "order-2:1", 400),
    ]
    assert [each.refund_key for each in lines if each.kind is BillLineKind.REFUND] == ["r-a"]
    assert empty.lines == ()


async def test_a_server_that_never_answers_is_left_after_the_time_allowed() -> None:
    """A port that takes the connection and says nothing: no answer, soon."""

    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()
        await writer.wait_closed()

    gone = asyncio.Event()
    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    url = f"http://{host}:{port}"
    providers: list[OpenedProvider] = [
        HttpProvider(url, timeout_seconds=0.2),
        StripeProvider(API_KEY, return_url="https://s.example", base_url=url, timeout_seconds=0.2),
    ]
    for provider in providers:
        with pytest.raises(ProviderUnavailableError):
            await provider.create(ORDER)
        await provider.aclose()
    gone.set()
    server.close()
    await server.wait_closed()


async def test_a_rush_of_ours_is_no_silence_of_the_provider() -> None:
    """All connections wait for attempts, more calls wait for them, and a sign of life comes."""
    creates = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal creates
        if (await reader.readline()).startswith(b"POST"):
            creates += 1
            await gone.wait()
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    provider = HttpProvider(f"http://{host}:{port}", timeout_seconds=60)
    calls = [asyncio.create_task(provider.create(ORDER)) for _ in range(CONNECTIONS_MAX * 4)]
    async with asyncio.timeout(30):
        while creates < CONNECTIONS_MAX:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        await provider.check()
    still_waiting = [call for call in calls if not call.done()]
    gone.set()
    await asyncio.gather(*calls, return_exceptions=True)
    await provider.aclose()
    server.close()

    assert len(still_waiting) == len(calls)


# --- Stripe's events -----------------------------------------------------------------------

SECRET = b"whsec_0123456789abcdef"
SESSION = {
    "id": "cs_test_1",
    "object": "checkout.session",
    "client_reference_id": "order-1:1",
    "amount_total": 84_000,
    "currency": "eur",
    "payment_status": "paid",
    "metadata": {"lastunit_attempt": "order-1:1"},
}
REFUND = {
    "id": "re_1",
    "object": "refund",
    "amount": 4_000,
    "currency": "eur",
    "status": "succeeded",
    "metadata": {"lastunit_attempt": "order-1:1", "lastunit_refund": "r-a"},
}


def event(kind: str, subject: dict[str, Any], **changes: Any) -> bytes:
    """Returns an event's bytes."""
    body = {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "created": NOW_SECONDS,
        "data": {"object": subject},
    }
    return json.dumps(body | changes).encode()


@pytest.mark.parametrize(
    ("kind", "subject", "expected"),
    [
        ("checkout.session.completed", SESSION, CallbackKind.PAYMENT_SUCCEEDED),
        ("checkout.session.completed", SESSION | {"payment_status": "unpaid"}, None),
        ("checkout.session.async_payment_succeeded", SESSION, CallbackKind.PAYMENT_SUCCEEDED),
        ("checkout.session.async_payment_failed", SESSION, CallbackKind.PAYMENT_FAILED),
        ("checkout.session.expired", SESSION, CallbackKind.PAYMENT_CLOSED),
        ("refund.updated", REFUND, CallbackKind.REFUND_SUCCEEDED),
        ("refund.failed", REFUND | {"status": "failed"}, CallbackKind.REFUND_FAILED),
        ("refund.created", REFUND | {"status": "pending"}, None),
        ("customer.created", {"id": "cus_1"}, None),
    ],
)
def test_each_event_of_stripe_is_the_news_it_tells(
    kind: str, subject: dict[str, Any], expected: CallbackKind | None
) -> None:
    """Kind, our number, money and key; an event that is none for us is no news."""
    envelope = open_dialect("stripe").read(event(kind, subject))
    callback = envelope.callback

    assert envelope.event_id == "evt_1"
    assert (callback.kind if callback else None) is expected
    if callback is not None:
        assert callback.merchant_no == "order-1:1"
        assert (callback.currency, callback.occurred_ms) == ("EUR", NOW_MS)
        is_refund = kind.startswith("refund")
        assert callback.amount_minor == (4_000 if is_refund else 84_000)
        assert callback.refund_key == ("r-a" if is_refund else "")


@pytest.mark.parametrize(
    "raw_body",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"id": "evt_1"}',
        event("checkout.session.expired", {}),
    ],
)
def test_a_signed_event_that_cannot_be_read_is_malformed(raw_body: bytes) -> None:
    """It ends in the one error that the door answers 400 to."""
    with pytest.raises(MalformedCallbackError):
        open_dialect("stripe").read(raw_body)


def test_stripes_signature_is_checked_with_every_key() -> None:
    """Old and new secret open; another secret, other bytes, and bytes that are no text do not."""
    dialect = open_dialect("stripe")
    raw_body = event("checkout.session.completed", SESSION)
    signed = stripe.WebhookSignature.generate_signature_header(
        raw_body.decode(), SECRET.decode(), NOW_SECONDS
    )
    headers = {"stripe-signature": signed}

    assert dialect.timestamp(headers) == str(NOW_SECONDS)
    assert dialect.is_signed([b"whsec_next_next_next", SECRET], headers, raw_body)
    assert not dialect.is_signed([b"whsec_next_next_next"], headers, raw_body)
    assert not dialect.is_signed([SECRET], headers, raw_body + b" ")
    assert not dialect.is_signed([SECRET], headers, b"\xff\xfe")
    assert not dialect.is_signed([], headers, raw_body)
    for header in ("", "t=1", "v1=00", f"t=x,{signed}", "t=²,v1=é", "," * 500):
        assert not dialect.is_signed([SECRET], {"stripe-signature": header}, raw_body)


# --- choosing one --------------------------------------------------------------------------


def test_a_provider_is_chosen_by_kind_and_address() -> None:
    """A plain URL is our own form; a kind stands before it; anything else is said."""
    assert parse_spec("http://127.0.0.1:1").kind == "http"
    assert parse_spec("stripe+https://api.stripe.com").url == "https://api.stripe.com"
    for wrong in ("", "ftp://x", "nobody+https://x", "stripe+", "https://"):
        with pytest.raises(ValueError, match="is no provider"):
            parse_spec(wrong)


async def test_a_key_comes_from_a_variable_or_a_file_and_its_lack_is_said(tmp_path: Any) -> None:
    """The sentence names the variable to set."""
    spec = parse_spec("stripe+http://127.0.0.1:1")
    back = {"LASTUNIT_PROVIDER_RETURN_URL_A_B": "https://shop.example"}
    file = tmp_path / "key"
    file.write_text(f"{API_KEY}\n")
    with pytest.raises(ValueError, match="LASTUNIT_PROVIDER_KEY_A_B"):
        open_provider("a.b", spec, back)
    with pytest.raises(ValueError, match="LASTUNIT_PROVIDER_RETURN_URL_A_B"):
        open_provider("a.b", spec, {"LASTUNIT_PROVIDER_KEY_A_B": API_KEY})
    with pytest.raises(ValueError, match="can't be read"):
        open_provider("a.b", spec, back | {"LASTUNIT_PROVIDER_KEY_FILE_A_B": str(tmp_path / "no")})
    opened = open_provider("a.b", spec, back | {"LASTUNIT_PROVIDER_KEY_FILE_A_B": str(file)})

    assert opened.name == "a.b"
    await opened.aclose()
