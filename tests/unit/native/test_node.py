"""The class `Node`: calls, faults, events, and the end of a node."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest
from google.rpc import error_details_pb2

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.outcome_pb2 import Outcome
from lastunit_server import _native

from . import kit

if TYPE_CHECKING:
    from pathlib import Path


def test_reserve_is_answered_durable_and_a_repeat_is_marked(node: _native.Node) -> None:
    """The first answer is durable when it comes; the second one says that it is a repeat."""
    first = kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    second = kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)

    assert first.result.outcome == Outcome.OUTCOME_OK
    assert first.place.durable_sequence >= first.place.sequence > 0
    assert not first.result.replayed
    assert second.result.replayed
    assert second.place.sequence == first.place.sequence


def test_fault_carries_reason_violations_and_time(tmp_path: Path) -> None:
    """A refusal is a google.rpc.Status that any client can read."""
    lanes = {"reservation": {"rate_per_second": 0.001, "burst": 1}}
    node = _native.Node(kit.settings(tmp_path, admission={"lanes": lanes}))
    kit.put_sale(node, 5)
    bad_code, bad = kit.call(node, "Reserve", kit.reserve("not an id"))
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    code, shed = kit.call(node, "Reserve", kit.reserve("b"))
    node.close()

    assert bad_code == 3
    violations = kit.details(bad, error_details_pb2.BadRequest).field_violations
    assert [it.field for it in violations] == ["reservation_id", "person_id"]
    assert (code, kit.reason(shed)) == (8, "RATE_LANE")
    wait = kit.details(shed, error_details_pb2.RetryInfo).retry_delay
    assert 900 < wait.seconds <= 1000


def test_method_without_or_with_a_slash_is_the_same(node: _native.Node) -> None:
    """Both forms of a gRPC path are known; another one is named in the fault."""
    for method in ("/lastunit.stock.v1.StockService/Reserve", kit.path("Reserve")):
        code, _ = node.call(method, kit.reserve("a").SerializeToString(), "tester", None, 0, "data")

        assert code == 0

    code, body = node.call("lastunit.stock.v1.StockService/Sing", b"", "tester", None, 0, "data")
    assert (code, kit.reason(body)) == (12, "UNKNOWN_METHOD")


def test_reserve_is_refused_on_the_settlement_listener(node: _native.Node) -> None:
    """Reservations must not be in the way of settlement."""
    request = kit.reserve("a").SerializeToString()
    code, body = node.call(kit.path("Reserve"), request, "tester", None, 0, "settlement")

    assert (code, kit.reason(body)) == (9, "WRONG_LISTENER")
    with pytest.raises(ValueError, match="listener must be data or settlement"):
        node.call(kit.path("Reserve"), request, "tester", None, 0, "other")


def test_caller_that_has_seen_more_is_told_that_the_journal_was_rolled_back(
    node: _native.Node,
) -> None:
    """A sequence or an epoch that this journal does not have is refused."""
    _, _, here, head, _ = node.health()
    request = kit.reserve("a").SerializeToString()
    for seen, epoch, expected in ((head, here, 0), (head + 9, here, 9), (0, here + 1, 9)):
        code, _ = node.call(kit.path("Reserve"), request, "tester", None, seen, "data", epoch)

        assert code == expected


def test_deadline_that_has_passed_prevents_any_effect(node: _native.Node) -> None:
    """Neither zero nor a negative time left leaves a trace in the ledger."""
    request = kit.reserve("late").SerializeToString()
    for left in (0, -5):
        code, body = node.call(kit.path("Reserve"), request, "tester", left, 0, "data")

        assert (code, kit.reason(body)) == (4, "DEADLINE_PASSED")
    fresh = kit.ask(node, "Reserve", kit.reserve("late"), stock.ReserveResponse)
    assert not fresh.result.replayed


def test_threads_of_python_call_one_node_at_once(node: _native.Node) -> None:
    """Twenty threads with the same id get one effect and equal answers."""
    answers: list[stock.ReserveResponse] = []

    def work() -> None:
        request = kit.reserve("same")
        answers.extend(kit.ask(node, "Reserve", request, stock.ReserveResponse) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(answers) == 400
    assert sum(not it.result.replayed for it in answers) == 1
    assert len({it.place.sequence for it in answers}) == 1


def test_events_are_read_in_pages_without_a_gap(node: _native.Node) -> None:
    """Each page goes on after the last; beyond the end is an error that says so."""
    for index in range(10):
        kit.ask(node, "Reserve", kit.reserve(f"r{index}"), stock.ReserveResponse)
    head = node.health()[4]
    after, sequences = 0, []
    while True:
        body, last = node.read_events(after, 3)
        page = journal.ReadEventsResponse.FromString(body)
        if not page.events:
            break
        sequences += [event.sequence for event in page.events]
        after = last

    assert sequences == list(range(1, head + 1))
    with pytest.raises(ValueError, match="beyond the journal's end") as beyond:
        node.read_events(head + 1, 3)
    assert beyond.value.args[1] == "SEQUENCE_NOT_REACHED"
    with pytest.raises(ValueError, match="1 to 4096") as limit:
        node.read_events(0, 4097)
    assert limit.value.args[1] == "LIMIT_INVALID"


def test_settings_that_cannot_be_used_are_named() -> None:
    """The error names the setting and has a reason for programs."""
    for text, part in (
        ("{}", "data_directory"),
        ('{"data_directory": "/tmp", "timer_step_limit": 0}', "timer_step_limit"),
        ("no json", "settings"),
    ):
        with pytest.raises(_native.NodeOpenError, match=part) as error:
            _native.Node(text)

        assert error.value.args[1] == "SETTINGS_INVALID"


def test_directory_has_one_owner_until_the_node_is_closed(tmp_path: Path) -> None:
    """A second node is refused; after the close it finds everything."""
    node = _native.Node(kit.settings(tmp_path))
    kit.put_sale(node, 5)
    with pytest.raises(_native.NodeOpenError) as error:
        _native.Node(kit.settings(tmp_path))
    assert error.value.args[1] == "DIRECTORY_IN_USE"

    node.close()
    node.close()
    assert node.health()[:2] == (False, "CLOSED")
    code, body = kit.call(node, "Reserve", kit.reserve("late"))
    assert (code, kit.reason(body)) == (14, "CLOSED")
    epoch = node.health()[2]
    again = _native.Node(kit.settings(tmp_path))
    assert again.health()[:2] == (True, "")
    assert again.health()[2] > epoch
    again.close()


def test_node_that_is_only_forgotten_loses_nothing(tmp_path: Path) -> None:
    """Dropping the object is like killing the process: what was answered is there."""
    node = _native.Node(kit.settings(tmp_path))
    kit.put_sale(node, 5)
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    del node
    node = _native.Node(kit.settings(tmp_path))
    again = kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    audit = kit.ask(node, "Audit", admin.AuditRequest(), admin.AuditResponse)
    node.close()

    assert again.result.replayed
    assert audit.holds


def test_drain_refuses_new_calls(node: _native.Node) -> None:
    """After a drain every call is told to go elsewhere, and health says why."""
    assert node.drain(1000)
    code, body = kit.call(node, "Reserve", kit.reserve("late"))

    assert (code, kit.reason(body)) == (14, "DRAINING")
    assert node.health()[:2] == (False, "DRAINING")


def test_metrics_are_json_with_the_place_on_top(node: _native.Node) -> None:
    """The ready line and the metrics page read these names."""
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    metrics = json.loads(node.metrics_json())
    _, _, epoch, sequence, durable = node.health()

    assert (metrics["epoch"], metrics["sequence"]) == (epoch, sequence)
    assert metrics["durable_sequence"] == durable == sequence
    assert metrics["admission"]["lanes"]["reservation"]["admitted_count"] == 1
    assert metrics["admission"]["callers"]["tester"]["refused_count"] == 0
    assert metrics["outcomes"]["OK"] >= 4
    assert metrics["ledger"]["reservation_count"] == 1


def test_directory_is_audited_without_being_owned(tmp_path: Path) -> None:
    """An offline audit reads what the node wrote and changes nothing."""
    node = _native.Node(kit.settings(tmp_path))
    kit.put_sale(node, 5)
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    node.close()
    before = {it.name: it.read_bytes() for it in tmp_path.iterdir()}
    audit = json.loads(_native.audit_directory(str(tmp_path)))
    body, last = _native.read_directory_events(str(tmp_path), 0, 100)

    assert audit["holds"]
    assert audit["reservations"]["HELD"] == 1
    assert audit["pools"][0]["available"] == 4
    assert audit["sequence"] == last
    assert len(journal.ReadEventsResponse.FromString(body).events) == last
    assert {it.name: it.read_bytes() for it in tmp_path.iterdir()} == before


def test_directory_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Neither the audit nor the events of a missing directory are invented."""
    with pytest.raises(_native.NodeOpenError):
        _native.audit_directory(str(tmp_path / "missing"))
    with pytest.raises(OSError, match="missing"):
        _native.read_directory_events(str(tmp_path / "missing"), 0, 10)
