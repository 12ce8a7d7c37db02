"""The door for callbacks: who gets in, in which order it is checked, and what is stored."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
import stripe
from prometheus_client import CollectorRegistry, generate_latest

from lastunit.payment import schema
from lastunit.payment.flood import Flood
from lastunit.payment.metrics import WebhookMetrics
from lastunit.payment.signature import is_signed, sign
from lastunit.payment.stripe_dialect import StripeDialect
from lastunit.payment.webhook import BODY_BYTES_MAX, TIME_WINDOW_SECONDS, Answer, Webhook
from lastunit.payment.webhook_app import webhook_app
from lastunit.service.database import Database

from .world import KEY, START_MS, World, over_http

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastunit.service.database import Lane

NEW_KEY = b"the next key, also sixteen"
NOW_SECONDS = START_MS // 1000
BODY: dict[str, Any] = {
    "event_id": "e-1",
    "type": "payment.succeeded",
    "merchant_no": "order-1:1",
    "provider_no": "p-1",
    "amount_minor": 84_000,
    "currency": "CNY",
    "occurred_at": START_MS,
    "state_version": 2,
}


def signed(raw_body: bytes, *, key: bytes = KEY, timestamp: int = NOW_SECONDS) -> dict[str, str]:
    """Returns the headers of an honest provider."""
    text = str(timestamp)
    return {
        "x-timestamp": text,
        "x-event-id": "e-1",
        "x-signature": sign(key, timestamp=text, raw_body=raw_body),
    }


def raw(**changes: Any) -> bytes:
    """Returns a body with some fields changed; None leaves a field out."""
    body = {name: value for name, value in (BODY | changes).items() if value is not None}
    return json.dumps(body).encode()


async def post(world: World, raw_body: bytes, **options: Any) -> Answer:
    """Posts a body with honest headers."""
    return await world.webhook.receive("sandbox", signed(raw_body, **options), raw_body)


def stored(world: World) -> int:
    """Returns how many callbacks are in the inbox."""
    with world.inbox.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(schema.inbox))
        return int(count.scalar_one())


async def test_a_signed_callback_is_stored_as_it_came(world: World) -> None:
    """The raw bytes are kept, and the answer is 200."""
    answer = await post(world, raw())

    assert Answer(200) == answer
    with world.inbox.read() as connection:
        assert raw() == connection.execute(sa.select(schema.inbox.c.raw_body)).scalar_one()


async def test_a_repeat_is_answered_200_and_stored_once(world: World) -> None:
    """A provider that did not hear our 200 may say it again."""
    answers = [await post(world, raw()), await post(world, raw())]

    assert [Answer(200), Answer(200, is_duplicate=True)] == answers
    assert stored(world) == 1


@pytest.mark.parametrize("field", ["amount_minor", "merchant_no", "type"])
async def test_a_forged_field_breaks_the_signature(world: World, field: str) -> None:
    """Bytes that nobody signed are refused, whatever field they change."""
    forged = raw(**{field: 1 if field == "amount_minor" else "payment.failed"})
    answer = await world.webhook.receive("sandbox", signed(raw()), forged)

    assert (answer.status, answer.reason) == (401, "signature")
    assert stored(world) == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-timestamp": str(NOW_SECONDS)},
        {"x-timestamp": str(NOW_SECONDS), "x-signature": ""},
        {"x-timestamp": str(NOW_SECONDS), "x-signature": "v1=é"},
        {"x-timestamp": "²", "x-signature": "v1=00"},
        {"x-timestamp": "-1", "x-signature": "v1=00"},
        {"x-timestamp": "9" * 400, "x-signature": "v1=00"},
    ],
)
async def test_odd_headers_are_refused_as_unauthenticated(
    world: World, headers: dict[str, str]
) -> None:
    """Whatever stands in the headers, it ends in 401 and never in an exception."""
    answer = await world.webhook.receive("sandbox", headers, raw())

    assert answer.status == 401
    assert stored(world) == 0


@pytest.mark.parametrize(
    ("offset_seconds", "status"),
    [
        (-TIME_WINDOW_SECONDS, 200),
        (TIME_WINDOW_SECONDS, 200),
        (-TIME_WINDOW_SECONDS - 1, 401),
        (TIME_WINDOW_SECONDS + 1, 401),
    ],
)
async def test_a_recorded_callback_is_worthless_after_the_window(
    world: World, offset_seconds: int, status: int
) -> None:
    """A good signature counts for 300 s either way and not for one second more."""
    answer = await post(world, raw(), timestamp=NOW_SECONDS + offset_seconds)

    assert status == answer.status


async def test_several_keys_are_valid_while_one_is_replaced() -> None:
    """Old and new key both open the door, a third does not."""
    world = World()
    world.webhook = Webhook(world.inbox, {"sandbox": [NEW_KEY, KEY]}, world.clock)
    answers = [
        await post(world, raw(), key=key) for key in (KEY, NEW_KEY, b"some other key of 16+")
    ]

    assert [answer.status for answer in answers] == [200, 200, 401]
    world.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": None},
        {"event_id": "x" * 65},
        {"type": "payment.maybe"},
        {"type": 7},
        {"merchant_no": "no spaces"},
        {"provider_no": ""},
        {"amount_minor": -1},
        {"amount_minor": 1.5},
        {"amount_minor": True},
        {"amount_minor": 10**16},
        {"currency": "cny"},
        {"occurred_at": "yesterday"},
        {"state_version": 2**63},
        {"failure_code": "x" * 65},
        {"failure_code": 5},
    ],
)
async def test_a_signed_but_malformed_body_is_refused(
    world: World, changes: dict[str, Any]
) -> None:
    """Each field has its range; one past it is 400 and nothing is stored."""
    answer = await post(world, raw(**changes))

    assert answer.status == 400
    assert stored(world) == 0


@pytest.mark.parametrize("raw_body", [b"", b"[]", b"\xff", b"{", b"[" * 60_000])
async def test_a_body_that_is_no_object_is_refused(world: World, raw_body: bytes) -> None:
    """Bytes that are not a JSON object are 400, however they were made."""
    assert (await post(world, raw_body)).status == 400


async def test_an_event_id_that_differs_from_its_header_is_refused(world: World) -> None:
    """Header and body must name the same event."""
    assert (await post(world, raw(event_id="e-2"))).reason == "event_id_differs"


async def test_size_is_checked_before_anything_else(world: World) -> None:
    """The largest body goes through, one byte more is 413 although it is signed."""
    padding = BODY_BYTES_MAX - len(raw(note=""))
    largest, too_large = raw(note="x" * padding), raw(note="x" * (padding + 1))

    assert len(largest) == BODY_BYTES_MAX
    assert [(await post(world, body)).status for body in (largest, too_large)] == [200, 413]


async def test_an_unknown_attempt_is_never_refused_at_the_door(world: World) -> None:
    """The door does not know attempts; it stores what is signed."""
    assert (await post(world, raw(merchant_no="nobody:9"))).status == 200


async def test_nobody_can_sign_for_a_provider_without_keys(world: World) -> None:
    """An unknown provider ends as a wrong signature does."""
    answer = await world.webhook.receive("elsewhere", signed(raw()), raw())

    assert (answer.status, answer.reason) == (401, "signature")


class BrokenRunner:
    """A database whose disk is full."""

    async def run(self, work: Callable[[sa.Connection], object], *, lane: Lane) -> Any:
        """Fails."""
        raise sa.exc.OperationalError("insert", {}, OSError("no space left on device"))


async def test_what_cannot_be_stored_is_503(world: World) -> None:
    """The provider is asked to come back rather than told a lie."""
    # Raises before it could return.
    webhook = Webhook(BrokenRunner(), {"sandbox": [KEY]}, world.clock)  # type: ignore[arg-type]
    world.webhook = webhook

    assert (await post(world, raw())).status == 503


async def test_concurrent_copies_are_stored_once(world: World) -> None:
    """A hundred copies at once get a hundred times 200 and leave one row."""
    answers = await asyncio.gather(*(post(world, raw()) for _ in range(100)))

    assert {200} == {answer.status for answer in answers}
    assert sum(not answer.is_duplicate for answer in answers) == 1
    assert stored(world) == 1


@pytest.mark.parametrize("keys", [[], [b"too short"], [KEY] * 9])
def test_keys_have_bounds(world: World, keys: list[bytes]) -> None:
    """No key, a short key and nine keys are refused when the door is made."""
    with pytest.raises(ValueError, match="keys"):
        Webhook(world.inbox, {"sandbox": keys}, world.clock)


async def test_a_providers_own_wording_passes_door_and_inbox(world: World) -> None:
    """An event of Stripe is verified by its library, stored as it came and settled; others rest."""
    dialect = StripeDialect()
    world.dialects["sandbox"] = dialect
    world.core = world.new_core()
    world.webhook = Webhook(world.inbox, {"sandbox": [NEW_KEY, KEY]}, world.clock, world.dialects)
    await world.start()

    async def tell(number: int, kind: str) -> Answer:
        session = {
            "id": "cs_1",
            "client_reference_id": "order-1:1",
            "payment_status": "paid",
            "amount_total": 84_000,
            "currency": "cny",
        }
        event = {"id": f"evt_{number}", "type": kind, "created": NOW_SECONDS}
        text = json.dumps(event | {"data": {"object": session}})
        header = stripe.WebhookSignature.generate_signature_header(text, KEY.decode(), NOW_SECONDS)
        headers = {"stripe-signature": header}
        return await world.webhook.receive("sandbox", headers, text.encode())

    answers = [
        await tell(1, "product.created"),
        await tell(2, "checkout.session.completed"),
        await tell(2, "checkout.session.completed"),
    ]
    unsigned = await world.webhook.receive("sandbox", signed(raw()), raw())
    await world.work()

    assert [Answer(200), Answer(200), Answer(200, is_duplicate=True)] == answers
    assert (unsigned.status, world.state()) == (401, "SUCCEEDED")
    assert (await world.totals())["orphan_count"] == 0


def test_the_signature_covers_timestamp_and_body() -> None:
    """Another timestamp with the same body does not verify."""
    signature = sign(KEY, timestamp="1", raw_body=b"{}")

    assert is_signed([KEY], timestamp="1", raw_body=b"{}", signature=signature)
    assert not is_signed([KEY], timestamp="2", raw_body=b"{}", signature=signature)
    assert not is_signed([KEY], timestamp="1", raw_body=b"{ }", signature=signature)
    assert not is_signed([], timestamp="1", raw_body=b"{}", signature=signature)


async def test_http_has_one_route_and_bounds_the_body(world: World) -> None:
    """Over HTTP: 200 for a good one, 413 for a huge one, and nothing else answers."""
    async with over_http(webhook_app(world.webhook)) as client:
        good = await client.post("/v1/callbacks/sandbox", content=raw(), headers=signed(raw()))
        huge = await client.post("/v1/callbacks/sandbox", content=b"x" * (BODY_BYTES_MAX + 1))
        other = await client.get("/")
        wrong_verb = await client.get("/v1/callbacks/sandbox")

    assert (good.status_code, good.json()) == (200, {"ok": True})
    assert (huge.status_code, huge.json()["reason"]) == (413, "too_large")
    assert [other.status_code, wrong_verb.status_code] == [404, 405]


async def test_the_inbox_keeps_the_order_of_arrival(tmp_path: Path) -> None:
    """Numbers rise with arrival, whatever the events are called."""
    world = World()
    with Database(tmp_path / "inbox.sqlite", schema.INBOX_METADATA) as database:
        world.webhook = Webhook(database, {"sandbox": [KEY]}, world.clock)
        for event_id in ("e-b", "e-a"):
            raw_body = raw(event_id=event_id)
            headers = signed(raw_body) | {"x-event-id": event_id}
            await world.webhook.receive("sandbox", headers, raw_body)
        with database.read() as connection:
            query = sa.select(schema.inbox.c.event_id).order_by(schema.inbox.c.inbox_id)

            assert list(connection.execute(query).scalars()) == ["e-b", "e-a"]
    world.close()


async def test_headers_alone_refuse_what_no_body_could_make_good(world: World) -> None:
    """A body that is announced too large, a stale time and an unknown provider cost no reading."""
    good = signed(raw())

    assert world.webhook.refuse_early("sandbox", good) is None
    for provider, headers, wanted in (
        ("sandbox", good | {"content-length": str(BODY_BYTES_MAX + 1)}, (413, "too_large")),
        ("sandbox", good | {"content-length": "9" * 400}, (413, "too_large")),
        ("sandbox", good | {"x-timestamp": "1"}, (401, "time")),
        ("sandbox", {}, (401, "time")),
        ("nobody", good, (401, "signature")),
    ):
        answer = world.webhook.refuse_early(provider, headers)
        assert answer is not None
        assert (answer.status, answer.reason) == wanted


async def test_a_flood_of_unsigned_requests_is_slowed_and_signed_ones_are_served(
    world: World,
) -> None:
    """Past its bucket an address loses its connections; a signed callback of it gets its 200."""
    forged = signed(raw()) | {"x-signature": "v1=" + "0" * 64}
    async with over_http(webhook_app(world.webhook)) as client:

        async def send(headers: dict[str, str]) -> tuple[int, str]:
            answer = await client.post("/v1/callbacks/sandbox", content=raw(), headers=headers)
            return answer.status_code, answer.headers.get("connection", "")

        answers = [await send(forged) for _ in range(30)]
        is_flooding = world.webhook.flood.is_flooding("127.0.0.1")
        good = await send(signed(raw()))
        after = world.webhook.flood.is_flooding("127.0.0.1")

    assert {status for status, _ in answers} == {401}
    assert [connection for _, connection in answers] == [""] * 10 + ["close"] * 20
    assert (is_flooding, good, after) == (True, (200, ""), False)
    assert world.webhook.flood.slowed_count == 20


async def test_only_our_proxy_is_believed_about_who_sends(world: World) -> None:
    """X-Forwarded-For counts from a proxy of ours, its last entry; from others it is a text."""
    forged = signed(raw()) | {"x-signature": "v1=00", "x-forwarded-for": "9.9.9.9, 7.7.7.7"}
    for proxies, flooding in ((frozenset({"127.0.0.1"}), "7.7.7.7"), (frozenset(), "127.0.0.1")):
        webhook = Webhook(world.inbox, {"sandbox": [KEY]}, world.clock)
        async with over_http(webhook_app(webhook, proxies=proxies)) as client:
            for _ in range(12):
                await client.post("/v1/callbacks/sandbox", content=raw(), headers=forged)
        shown = [
            each for each in ("9.9.9.9", "7.7.7.7", "127.0.0.1") if webhook.flood.is_flooding(each)
        ]

        assert shown == [flooding]


def test_addresses_that_are_remembered_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound all are known; one more forgets the one that was quiet longest."""
    monkeypatch.setattr("lastunit.payment.flood.ADDRESSES_MAX", 2)
    flood = Flood()
    for address in ("a", "b", "a", "c"):
        for _ in range(12):
            flood.note(address, is_verified=False, now_ms=START_MS)

    assert [flood.is_flooding(each) for each in ("a", "b", "c")] == [True, False, True]
    flood.note("a", is_verified=False, now_ms=START_MS + 2_000)
    assert not flood.is_flooding("a")


async def test_the_webhook_counts_what_it_answers(world: World) -> None:
    """By reason, in Prometheus' words."""
    await post(world, raw())
    await post(world, raw(), key=NEW_KEY)
    registry = CollectorRegistry()
    registry.register(WebhookMetrics(world.webhook))
    told = generate_latest(registry).decode()

    assert 'lastunit_webhook_callbacks_total{reason="ok"} 1.0' in told
    assert 'lastunit_webhook_callbacks_total{reason="signature"} 1.0' in told
    assert "lastunit_webhook_slowed_total 0.0" in told
