"""Bytes of the journal's files are flipped and cut; the server's own core opens them again.

In process, on real files: a start of the whole server for each byte would take an hour. What the
process says of a damaged journal is in `test_damage.py`.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from google.rpc import error_details_pb2, status_pb2
from tests.conformance.kit import Ledger, start_server

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server._native import Node, NodeOpenError, audit_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SEED = 17
SMALL = ("--set", "journal.segment_bytes=262144", "--set", "journal.kept_back_bytes=262144")
SLOT = 64
MARK = b"LUR1"
SEGMENT = "segment-0000000001.journal"
GET = "lastunit.stock.v1.StockService/GetReservation"
RESERVED = 20


class Damaged:
    """A journal of a killed server, and what becomes of damaged copies of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = self._make()
        self.facts = json.loads(audit_directory(str(self.whole)))
        self.content = (self.whole / SEGMENT).read_bytes()
        self.end = len(self.content.rstrip(b"\0"))
        starts = range(0, self.end, SLOT)
        self.last_start = max(at for at in starts if self.content[at : at + 4] == MARK)
        self.verdicts: Counter[str] = Counter()

    def _make(self) -> Path:
        server = start_server(self.folder, *SMALL)
        ledger = Ledger(server.ready["data"], server.ready["settlement"])
        sale_id = ledger.put_sale(units=100)
        for _ in range(RESERVED):
            ledger.held(sale_id)
        ledger.close()
        server.kill()
        return self.folder / "data"

    def try_all(self, damages: Iterable[Callable[[bytearray], None]]) -> None:
        """Tries each damage on a copy of its own, and counts what came of it."""
        for damage in damages:
            copy = self.folder / "copy"
            shutil.copytree(self.whole, copy)
            content = bytearray(self.content)
            damage(content)
            (copy / SEGMENT).write_bytes(content)
            self.verdicts[self._judge(copy)] += 1
            shutil.rmtree(copy)

    def _judge(self, copy: Path) -> str:
        try:
            node = Node(json.dumps({"data_directory": str(copy), "durability": "written"}))
        except NodeOpenError as error:
            text, reason = error.args
            assert reason == "JOURNAL_CORRUPT", text
            assert SEGMENT in text
            assert "restore" in text
            return "refused"
        request = stock.GetReservationRequest(reservation_id="nobody").SerializeToString()
        seen = self.facts["sequence"]
        code, body = node.call(GET, request, "tester", 5000, seen, "data", self.facts["epoch"])
        node.close()
        after = json.loads(audit_directory(str(copy)))
        assert after["holds"]
        if code == 0:
            assert (after["pools"], after["reservations"]) == (
                self.facts["pools"],
                self.facts["reservations"],
            )
            return "whole"
        assert reason_of(body) == "JOURNAL_ROLLED_BACK"
        # One flush and no more: the last of twenty reservations is gone, and who was told knows.
        assert after["reservations"]["HELD"] == RESERVED - 1
        return "rolled back"


def reason_of(body: bytes) -> str:
    """Returns the reason in a serialized status."""
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(body).details[0].Unpack(info)
    return str(info.reason)


def flip(at: int, bit: int) -> Callable[[bytearray], None]:
    """Returns the damage of one flipped bit."""

    def damage(content: bytearray) -> None:
        content[at] ^= 1 << bit

    return damage


def cut(at: int) -> Callable[[bytearray], None]:
    """Returns the damage of a file that ends early."""

    def damage(content: bytearray) -> None:
        del content[at:]

    return damage


def zero(at: int) -> Callable[[bytearray], None]:
    """Returns the damage of a lost end: zeros to the end of the file."""

    def damage(content: bytearray) -> None:
        content[at:] = bytes(len(content) - at)

    return damage


def try_last_record(folder: Path, *, step: int, elsewhere: int) -> Counter[str]:
    """Flips, cuts and zeroes the last record byte by byte, and flips bits anywhere."""
    chooser = random.Random(SEED)
    damaged = Damaged(folder)
    places = range(damaged.last_start, damaged.end, step)
    damaged.try_all(flip(at, chooser.randrange(8)) for at in places)
    damaged.try_all(cut(at) for at in places)
    damaged.try_all(zero(at) for at in places)
    used = [chooser.randrange(damaged.end) for _ in range(elsewhere)]
    damaged.try_all(flip(at, chooser.randrange(8)) for at in used)
    return damaged.verdicts


def test_bytes_of_the_last_record_are_refused_noticed_or_harmless(tmp_path: Path) -> None:
    """Each eleventh byte of the last record, and twenty bits elsewhere: never a wrong state."""
    verdicts = try_last_record(tmp_path, step=11, elsewhere=20)

    assert verdicts["refused"] > 20
    assert verdicts["rolled back"] > 5


@pytest.mark.slow
def test_every_byte_of_the_last_record_is_refused_noticed_or_harmless(tmp_path: Path) -> None:
    """Every byte of it, and three hundred bits elsewhere."""
    verdicts = try_last_record(tmp_path, step=1, elsewhere=300)

    assert verdicts["refused"] > 300
    assert verdicts["rolled back"] > 50
