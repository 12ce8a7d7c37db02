"""The policy's form and the advisor, as whoever is on call uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
from playwright.sync_api import expect
from tests.conformance.kit import Ledger, Server, start_server

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.admission.v1 import gate_pb2
from lastunit_server.tokens import new_token

from .pages import FLAGS, PATIENCE_MS, opened, picture

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

STRICT = "version = 1\n[lanes.reservation]\nrate_per_second = 10\nburst = 5\n"
WRONG = "version = 1\n[lanes.fast]\n"


def in_force(ledger: Ledger) -> messages.GetPolicyResponse:
    """Returns the policy in force."""
    return ledger.admission.GetPolicy(messages.GetPolicyRequest())


def note(page: Page, text: str) -> None:
    """Waits until the form says something."""
    expect(page.locator("#policy-note")).to_contain_text(text, timeout=PATIENCE_MS)


def wait_for_form(page: Page) -> None:
    """Waits until the policy in force is shown."""
    expect(page.locator("#policy-now")).to_contain_text("In force", timeout=PATIENCE_MS)


def write(page: Page, document: str) -> None:
    """Types a document and has it checked."""
    page.locator("#policy-text").fill(document)
    page.get_by_role("button", name="Check, change nothing").click()


def test_a_policy_is_checked_put_with_a_reason_and_rolled_back(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """A mistake is told with its line; what was checked is put; the older one comes back."""
    page = opened(browser, server.ready["console"])
    wait_for_form(page)
    put = page.get_by_role("button", name="Put it in force")
    expect(put).to_be_disabled()
    write(page, WRONG)
    note(page, "line 2: lanes.fast")
    write(page, STRICT)
    note(page, "Valid. It would change:")
    expect(page.locator("#policy-changes")).to_contain_text("lanes.reservation.burst")
    expect(put).to_be_disabled()
    page.locator("#policy-reason").fill("the database is slow")
    assert in_force(ledger).version == 0
    picture(page, "console-policy", "section:has(#policy-form)")
    put.click()
    note(page, "Your policy is revision 1; in force: revision 1")
    held = in_force(ledger)
    assert (held.revision.document, held.revision.reason) == (STRICT, "the database is slow")

    write(page, STRICT.replace("10", "20"))
    note(page, "Valid")
    page.locator("#policy-reason").fill("less so")
    page.keyboard.press("Enter")
    note(page, "Your policy is revision 2")
    page.get_by_role("button", name="Roll back to revision 1").click()
    page.locator("#back-reason").fill("it was right")
    page.keyboard.press("Enter")
    note(page, "The document of revision 1 is revision 3")
    expect(page.locator("#policy-text")).to_have_value(STRICT)
    held = in_force(ledger)
    assert (held.version, held.revision.document) == (3, STRICT)


def test_who_was_slower_is_told_and_loses_no_line(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """Somebody else's revision is not overwritten, and the form keeps what was typed."""
    page = opened(browser, server.ready["console"])
    wait_for_form(page)
    write(page, STRICT)
    note(page, "Valid")
    page.locator("#policy-reason").fill("mine")
    request = messages.PutPolicyRequest(document="version = 1\n", actor="other", reason="first")
    ledger.admission.PutPolicy(request)
    page.get_by_role("button", name="Put it in force").click()
    note(page, "meanwhile")
    expect(page.locator("#policy-text")).to_have_value(STRICT)
    assert in_force(ledger).revision.reason == "first"


def test_a_reader_sees_the_policy_and_can_not_change_it(browser: Browser, tmp_path: Path) -> None:
    """No form for `admission` alone, and what is sent by hand is refused; `policy` has one."""
    names = ("eye", "hand")
    tokens = {name: new_token(name, identifier=None, expires=None) for name in names}
    (tmp_path / "tokens.toml").write_text("\n".join(row for _token, row in tokens.values()))
    settings = tmp_path / "server.toml"
    settings.write_text(
        f'[authentication]\ntokens_file = "{tmp_path / "tokens.toml"}"\n'
        '[[permissions]]\ncallers = ["eye", "hand"]\nmethods = ["admission"]\n'
        '[[permissions]]\ncallers = ["hand"]\nmethods = ["policy", "admin"]\n'
    )
    server = start_server(tmp_path, "--config", str(settings), *FLAGS)
    url = f"http://{server.ready['console']}"
    body: dict[str, Any] = {"document": STRICT, "reason": "x", "expected_revision": 0}
    back = {"revision": 0, "reason": "x", "expected_revision": 0}
    statuses = {}
    for name in names:
        with httpx.Client(base_url=url) as client:
            client.post("/session", json={"token": tokens[name][0]}).raise_for_status()
            statuses[name] = (
                client.post("/policy", json=body | {"is_dry_run": True}).status_code,
                client.post("/policy/rollback", json=back).status_code,
                client.post("/policy", json={"document": 1}).status_code,
            )
            # A page of another site sends no JSON of ours.
            foreign = client.post("/policy", json=body, headers={"origin": "http://evil.example"})
            assert foreign.status_code == 400
    assert httpx.get(f"{url}/policy").status_code == 401
    assert httpx.get(f"{url}/advice").status_code == 401
    page = opened(browser, server.ready["console"])
    page.locator("#token").fill(tokens["eye"][0])
    page.keyboard.press("Enter")
    wait_for_form(page)
    expect(page.locator("#policy-text")).not_to_be_editable()
    expect(page.get_by_role("button", name="Check, change nothing")).to_have_count(0)
    expect(page.get_by_role("button", name="Put it in force")).to_have_count(0)
    server.stop()

    assert statuses == {"eye": (403, 403, 400), "hand": (200, 200, 400)}


def test_the_advisor_shows_numbers_with_their_arithmetic(
    browser: Browser, server: Server, ledger: Ledger
) -> None:
    """What is not known yet is said as such; a report of the order service gives Qmax."""
    sale = ledger.put_sale(units=1, reservation_ttl={"seconds": 600})
    ledger.admission.GetGate(gate_pb2.GetGateRequest(sale_id=sale))
    page = opened(browser, server.ready["console"], width=390, color_scheme="dark")
    advice = page.locator("#advice")
    expect(advice).to_contain_text("the order service has not reported yet", timeout=PATIENCE_MS)
    report = messages.ReportPressureRequest(
        generation=1, work_per_second_milli=30_000, work_per_order_milli=3_000, pay_count=200
    )
    report.pay_p99.FromSeconds(90)
    ledger.admission.ReportPressure(report)
    expect(advice).to_contain_text("10/s x (600 - 90 - 60) s = 4500", timeout=PATIENCE_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, "console-advice", "section:has(#advice)")
