"""The console while a whole sale runs: real services, thousands of presses, one look a second."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .pages import opened, picture

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

# The incident, small and in a twentieth of its time: 120 units in a life of 30 s,
# and a gate that lets 60 wait to be paid.
SALE = """
[sale]
sale_id = "incident"
sku = "unit"
unit_amount_minor = 84000

[[pool]]
pool = "main"
units = 120

[buyers]
count = 500
arrival_seconds = 60
think_seconds = 60
views_per_buyer = 100

[run]
time_scale = 0.05
order_transactions_per_second = 3.2
"""
GATE = ("gate.settled_per_second=3", "gate.pay_p99_seconds=5", "gate.margin_seconds=5")
# Set to look at the incident itself, 2,000 units and 20,000 buyers in a tenth of its time, as the
# pictures of docs/operating/console.md show it: a life of 60 s, and 736 may wait to be paid.
IS_WHOLE = bool(os.environ.get("LASTUNIT_WHOLE_INCIDENT"))
GATE_OF_WHOLE = ("gate.settled_per_second=16", "gate.pay_p99_seconds=9", "gate.margin_seconds=5")
START_SECONDS = 120
SOLD_OUT_MS = 240_000


def free_port() -> int:
    """Finds a port that nobody has now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_page(address: str, run: subprocess.Popen[str]) -> None:
    """Waits until the console answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        assert run.poll() is None, "the run ended before its console was there"
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=5):
                return
        except OSError:
            assert time.monotonic() < end, "the console did not come"
            time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_incident_is_seen_from_calm_to_sold_out(browser: Browser, tmp_path: Path) -> None:
    """Open before the buyers come, shut while more wait than can pay, sold out, and checks hold."""
    (tmp_path / "sale.toml").write_text(SALE)
    sale = ["--incident"] if IS_WHOLE else ["--sale", str(tmp_path / "sale.toml")]
    address = f"127.0.0.1:{free_port()}"
    settings = (f"console.address={address}", *(GATE_OF_WHOLE if IS_WHOLE else GATE))
    words = [*sale, "--data-directory", str(tmp_path / "run"), "--exit", "--json"]
    words += [word for pair in settings for word in ("--ledger-set", pair)]
    with (tmp_path / "run.log").open("w") as log:
        run = subprocess.Popen(
            [sys.executable, "-m", "lastunit.cli", "run", *words],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        wait_for_page(address, run)
        page = opened(browser, address)
        card = page.locator('article[data-sale="incident"]')
        # The console is there before the sale is defined.
        expect(card.locator(".light")).to_contain_text("OPEN", timeout=START_SECONDS * 1_000)
        page.wait_for_timeout(1_500)
        picture(page, "console-calm")
        expect(card).to_have_attribute("data-state", "closed", timeout=SOLD_OUT_MS)
        expect(card).to_contain_text("too many wait to be paid")
        page.wait_for_timeout(4_000)
        picture(page, "console-storm")
        expect(card.locator(".light")).to_contain_text("SOLD OUT", timeout=SOLD_OUT_MS)
        page.wait_for_timeout(1_500)
        picture(page, "console-sold-out")
        page.close()
        told, _ = run.communicate(timeout=SOLD_OUT_MS / 1_000)
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait(60)

    assert run.returncode == 0, told
