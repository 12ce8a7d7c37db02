"""The console and the waiting page, as whoever is on call and whoever waits see them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import httpx
from playwright.sync_api import expect
from tests.conformance.kit import Access, Ledger, Server, start_server

from lastunit.admission.v1 import gate_pb2 as messages
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.tokens import new_token

from .pages import FLAGS, PATIENCE_MS, opened, picture

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

STORM_SECONDS = 4


def light(page: Page, sale_id: str, text: str) -> None:
    """Waits until the gate of a sale shows a text."""
    card = page.locator(f'article[data-sale="{sale_id}"]')
    expect(card.locator(".light")).to_contain_text(text, timeout=PATIENCE_MS)


def storm(ledger: Ledger, sale_id: str, is_over: threading.Event) -> None:
    """Has buyers come until everything is gone, and after that."""
    while not is_over.is_set():
        try:
            ledger.reserve(sale_id)
        except grpc.RpcError:
            is_over.wait(0.01)


def test_calm_storm_and_sold_out_are_seen_as_they_happen(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """The light follows the queue to closed and tells when everything is gone."""
    sale_id = ledger.put_sale(units=60, reservation_ttl={"seconds": 50})
    page = opened(browser, server.ready["console"])
    light(page, sale_id, "OPEN")
    expect(page.locator("#health")).to_have_text("serving")
    expect(page.locator("#lanes")).to_contain_text("reservation")
    page.wait_for_timeout(1500)

    first = [ledger.held(sale_id) for _ in range(52)]
    light(page, sale_id, "CLOSED")
    is_over = threading.Event()
    buyers = threading.Thread(target=storm, args=(ledger, sale_id, is_over))
    buyers.start()
    try:
        expect(page.locator("#callers")).to_contain_text("anonymous")
        page.wait_for_timeout(STORM_SECONDS * 1000)
        light(page, sale_id, "CLOSED")
    finally:
        is_over.set()
        buyers.join()
    for reservation_id in first:
        request = stock.ConfirmRequest(
            request_id=f"sold-{reservation_id}", reservation_id=reservation_id
        )
        ledger.must(ledger.settling.Confirm(request))
    for row in _held(ledger, sale_id):
        request = stock.ConfirmRequest(request_id=f"sold-{row}", reservation_id=row)
        ledger.must(ledger.settling.Confirm(request))
    light(page, sale_id, "SOLD OUT")
    expect(page.locator("#skus")).to_contain_text("gone")


def _held(ledger: Ledger, sale_id: str) -> list[str]:
    request = stock.ListReservationsRequest(sale_id=sale_id, state=1, page_size=1000)
    return [row.reservation_id for row in ledger.stock.ListReservations(request).reservations]


def test_a_gate_is_closed_by_keyboard_alone(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """Enter on the button, a reason, Enter again: the ledger has the order with the reason."""
    sale_id = ledger.put_sale(units=1)
    page = opened(browser, server.ready["console"], width=390, color_scheme="dark")
    light(page, sale_id, "OPEN")
    page.get_by_role("button", name=f"Close the gate of {sale_id}").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#reason")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#order")).to_be_visible()
    page.keyboard.type("the provider is down")
    page.keyboard.press("Enter")
    light(page, sale_id, "CLOSED")
    expect(page.locator(f'article[data-sale="{sale_id}"] .order')).to_contain_text(
        "the provider is down"
    )
    shown = ledger.admission.GetGate(messages.GetGateRequest(sale_id=sale_id)).gate
    assert (shown.order.reason, shown.order.hand) == (
        "the provider is down",
        messages.GATE_HAND_CLOSED,
    )
    assert shown.order.HasField("until_time")
    # Nothing on a phone is wider than the phone.
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, "console-phone")


def test_a_token_lets_in_and_a_reader_has_no_buttons(browser: Browser, tmp_path: Path) -> None:
    """Without a token there is a form only; a caller without the right sees and can't act."""
    names = ("eye", "hand", "stranger")
    tokens = {name: new_token(name, identifier=None, expires=None) for name in names}
    (tmp_path / "tokens.toml").write_text("\n".join(row for _token, row in tokens.values()))
    settings = tmp_path / "server.toml"
    settings.write_text(
        f'[authentication]\ntokens_file = "{tmp_path / "tokens.toml"}"\n'
        '[[permissions]]\ncallers = ["eye", "hand"]\nmethods = ["admission"]\n'
        '[[permissions]]\ncallers = ["hand"]\nmethods = ["gate", "admin"]\n'
    )
    server = start_server(tmp_path, "--config", str(settings), *FLAGS)
    ledger = Ledger(
        server.ready["data"], server.ready["settlement"], Access(token=tokens["hand"][0])
    )
    sale_id = ledger.put_sale(units=1)
    page = opened(browser, server.ready["console"])
    expect(page.locator("#sign-in")).to_be_visible()
    for wrong in ("wrong", tokens["stranger"][0]):
        page.locator("#token").fill(wrong)
        page.keyboard.press("Enter")
        expect(page.locator("#sign-in-error")).not_to_be_empty()
        expect(page.locator("#board")).to_be_hidden()
    button = page.get_by_role("button", name=f"Close the gate of {sale_id}")
    for name, count in (("eye", 0), ("hand", 1)):
        page.locator("#token").fill(tokens[name][0])
        page.keyboard.press("Enter")
        light(page, sale_id, "OPEN")
        expect(page.locator("#who")).to_have_text(name)
        expect(button).to_have_count(count)
        page.get_by_role("button", name="Sign out").click()
        expect(page.locator("#sign-in")).to_be_visible()
    ledger.close()
    server.stop()


def test_other_sites_can_neither_look_nor_act(server: Server, ledger: Ledger) -> None:
    """A foreign Host, a foreign Origin and a form are refused before anything is done."""
    sale_id = ledger.put_sale(units=1)
    url = f"http://{server.ready['console']}"
    order = {"sale_id": sale_id, "hand": "closed", "reason": "x"}
    assert httpx.get(f"{url}/events", headers={"host": "evil.example"}).status_code == 400
    for headers in ({"origin": "http://evil.example"}, {"content-type": "text/plain"}):
        assert httpx.post(f"{url}/gate", json=order, headers=headers).status_code == 400
    shown = ledger.admission.GetGate(messages.GetGateRequest(sale_id=sale_id)).gate
    assert shown.revision == 0
    assert httpx.post(f"{url}/gate", json=order).json()["order"]["reason"] == "x"


def test_who_waits_is_brought_in_when_the_gate_opens(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """The waiting page says why, asks again by itself and goes on to the shop's own path only."""
    sale_id = ledger.put_sale(units=1)
    order = messages.SetGateRequest(
        sale_id=sale_id, hand=messages.GATE_HAND_QUEUEING, actor="tester", reason="test"
    )
    ledger.admission.SetGate(order)
    where = f"{server.ready['gate']}/waiting?sale={sale_id}&next="
    page = opened(browser, f"{where}/v1/gates/{sale_id}")
    expect(page.get_by_role("heading")).to_have_text("There is a queue")
    order.hand = messages.GATE_HAND_AUTOMATIC
    ledger.admission.SetGate(order)
    page.wait_for_url(f"**/v1/gates/{sale_id}", timeout=PATIENCE_MS)

    page = opened(browser, f"{where}//evil.example")
    expect(page.get_by_role("heading")).to_have_text("You can come in", timeout=PATIENCE_MS)
    expect(page.locator("#go")).to_be_hidden()
