"""The table: who may call what on which sale."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conformance.kit import SKU, Ledger, new_id, reserve_request

from lastunit.admission.v1 import admission_service_pb2
from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.methods import GROUPS

from .kit import Door, new_door, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TABLE = """
[[permissions]]
callers = ["keeper"]
methods = ["admin", "reserve", "settle", "read", "journal", "admission", "introspection"]

[[permissions]]
callers = ["flash"]
methods = ["reserve", "settle", "read", "ExplainReservation"]
sales = ["flash-*"]

[[permissions]]
callers = ["payments"]
methods = ["settle"]

[[permissions]]
callers = ["flash"]
methods = ["Audit"]
sales = ["flash-*"]
"""
CALLERS = ("keeper", "flash", "payments", "unlisted")


class Party:
    """A server with a table and a ledger for each caller."""

    def __init__(self, door: Door, table: str = TABLE) -> None:
        self.door = door
        for caller in CALLERS:
            door.give_token(caller)
        door.write(table)
        door.start()
        self.ledgers = {caller: door.ledger(door.tokens[caller]) for caller in CALLERS}
        self.keeper = self.ledgers["keeper"]
        self.sales = {kind: self.open_sale(f"{kind}-{new_id('sale')}") for kind in ("flash", "own")}

    def open_sale(self, sale_id: str) -> str:
        """Makes a sale of a given id with stock."""
        request = admin.PutSaleRequest(**self.keeper.by(), sale_id=sale_id)
        request.policy.SetInParent()
        self.keeper.must(self.keeper.admin.PutSale(request))
        self.keeper.must(
            self.keeper.admin.PutPool(
                admin.PutPoolRequest(
                    **self.keeper.by(), sale_id=sale_id, sku=SKU, pool="main", is_offered=True
                )
            )
        )
        self.keeper.supply(sale_id, 100)
        return sale_id

    def close(self) -> None:
        """Closes the ledgers."""
        for ledger in self.ledgers.values():
            ledger.close()


@pytest.fixture(scope="module")
def party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Party]:
    """A server with the table above."""
    made = Party(new_door(tmp_path_factory.mktemp("party")))
    yield made
    made.close()
    assert made.door.server is not None
    assert made.door.server.stop() == 0


def held(party: Party) -> dict[str, int]:
    """Returns how many units are held in each sale."""
    return {
        kind: party.keeper.counters(sale_id).get("held", 0) for kind, sale_id in party.sales.items()
    }


def by_id(reservation_id: str) -> dict[str, Any]:
    """Returns what most settling requests carry."""
    return {"request_id": new_id("request"), "reservation_id": reservation_id}


# What a call is about, and the call.
Calls = dict[str, tuple[str, "Callable[[], Any]"]]
SALE, HELD, WHOLE = "sale", "reservation", "ledger"


def of(stub: Any, request: Any) -> Callable[[], Any]:
    """Returns a call that is made later; of a stream, the first message is taken."""

    def call() -> Any:
        found = stub(request, timeout=10)
        return next(found) if hasattr(found, "__next__") else found

    return call


def calls_of(ledger: Ledger, sale_id: str, reservation_id: str) -> Calls:
    """Returns methods of every group as calls, with what each is about."""
    return (
        reserving_calls(ledger, sale_id, reservation_id)
        | settling_calls(ledger, reservation_id)
        | operator_calls(ledger, sale_id, reservation_id)
    )


def reserving_calls(ledger: Ledger, sale_id: str, reservation_id: str) -> Calls:
    """Returns the calls of the data listener."""
    on = ledger.stock
    get = stock.GetReservationRequest(reservation_id=reservation_id)
    listed = stock.ListReservationsRequest(sale_id=sale_id, page_size=1)
    return {
        "Reserve": (SALE, of(on.Reserve, reserve_request(sale_id))),
        "GetReservation": (HELD, of(on.GetReservation, get)),
        "ListReservations": (SALE, of(on.ListReservations, listed)),
        "GetAvailability": (
            SALE,
            of(on.GetAvailability, stock.GetAvailabilityRequest(sale_id=sale_id)),
        ),
        "WatchAvailability": (
            SALE,
            of(on.WatchAvailability, stock.WatchAvailabilityRequest(sale_id=sale_id)),
        ),
        "ReadEvents": (
            WHOLE,
            of(ledger.journal.ReadEvents, journal.ReadEventsRequest(page_size=1)),
        ),
    }


def settling_calls(ledger: Ledger, reservation_id: str) -> Calls:
    """Returns the calls that settle; whether they fit the reservation's state is no matter."""
    on = ledger.settling
    ids: dict[str, Any] = {"reservation_id": reservation_id}
    extend = stock.ExtendRequest(request_id=new_id("request"), **ids)
    extend.extension.FromSeconds(60)

    def named() -> dict[str, Any]:
        return {"request_id": new_id("request"), **ids}

    requests = {
        "BeginPayment": stock.BeginPaymentRequest(attempt_id=new_id("attempt"), **ids),
        "SettlePayment": stock.SettlePaymentRequest(
            attempt_id=new_id("attempt"),
            payment_result=reservation.PAYMENT_RESULT_FAILED,
            **named(),
        ),
        "Confirm": stock.ConfirmRequest(**named()),
        "Release": stock.ReleaseRequest(
            release_reason=reservation.RELEASE_REASON_CLIENT, **named()
        ),
        "Extend": extend,
        "Return": stock.ReturnRequest(
            sku=SKU, units=1, disposition=reservation.DISPOSITION_RESELL, **named()
        ),
        "RecordRefund": stock.RecordRefundRequest(attempt_id=new_id("attempt"), **named()),
    }
    return {name: (HELD, of(getattr(on, name), request)) for name, request in requests.items()}


def operator_calls(ledger: Ledger, sale_id: str, reservation_id: str) -> Calls:
    """Returns some calls of each kind that operators make."""
    on, shown = ledger.admin, ledger.admission
    at: dict[str, Any] = {"sale_id": sale_id, "sku": SKU, "pool": "main", "units": 1}
    unverified = admin.ReleaseUnverifiedRequest(reservation_id=reservation_id, **ledger.by())
    explain = admin.ExplainReservationRequest(reservation_id=reservation_id)
    counted = admission_service_pb2.GetAdmissionStatsRequest(page_size=1)
    brake = admin.SetExpiryBrakeRequest(**ledger.by())
    withdraw = admin.WithdrawStockRequest(**ledger.by(), **at)
    return {
        "SupplyStock": (SALE, of(on.SupplyStock, admin.SupplyStockRequest(**ledger.by(), **at))),
        "WithdrawStock": (SALE, of(on.WithdrawStock, withdraw)),
        "SetExpiryBrake": (WHOLE, of(on.SetExpiryBrake, brake)),
        "ReleaseUnverified": (HELD, of(on.ReleaseUnverified, unverified)),
        "Audit": (WHOLE, of(on.Audit, admin.AuditRequest())),
        "ExplainReservation": (HELD, of(on.ExplainReservation, explain)),
        "GetPolicy": (WHOLE, of(shown.GetPolicy, admission_service_pb2.GetPolicyRequest())),
        "GetAdmissionStats": (WHOLE, of(shown.GetAdmissionStats, counted)),
    }


def is_permitted(caller: str, method: str, about: str, kind: str) -> bool:
    """Says what the table above means, in other words than the server's."""
    if caller == "keeper":
        return True
    if caller == "payments":
        return method in GROUPS["settle"]
    if caller == "flash":
        methods = GROUPS["reserve"] | GROUPS["settle"] | GROUPS["read"] | {"ExplainReservation"}
        return method in methods and about != "ledger" and kind == "flash"
    return False


@pytest.mark.parametrize("kind", ["flash", "own"])
def test_each_method_for_each_caller_is_judged_as_the_table_says(party: Party, kind: str) -> None:
    """What a row names is served; all else is PERMISSION_DENIED, naming caller and method."""
    sale_id = party.sales[kind]
    for caller, ledger in party.ledgers.items():
        reservation_id = party.keeper.held(sale_id)
        for method, (about, call) in calls_of(ledger, sale_id, reservation_id).items():
            if is_permitted(caller, method, about, kind):
                call()
                continue
            told = refusal_of(call)
            assert told.code is grpc.StatusCode.PERMISSION_DENIED, (caller, method, told)
            assert told.reason == "NOT_PERMITTED"
            assert told.metadata["caller"] == caller
            assert told.metadata["method"] == method
            assert told.metadata["missing"] in {"caller", "method", "sale"}
            assert caller in told.message


def test_a_refused_call_changes_nothing_and_tells_no_sale(party: Party) -> None:
    """The reservation of another sale stays as it is, and whose it is stays unsaid."""
    reservation_id = party.keeper.held(party.sales["own"])
    before = party.keeper.sequence()

    told = refusal_of(
        lambda: party.ledgers["flash"].settling.Confirm(
            stock.ConfirmRequest(**by_id(reservation_id))
        )
    )

    assert told.metadata["missing"] == "sale"
    assert party.sales["own"] not in str(told)
    assert party.keeper.sequence() == before
    assert party.keeper.state(reservation_id) == reservation.STATE_HELD


def test_an_exchange_answers_operation_by_operation(party: Party) -> None:
    """What is permitted is done, what is not is a fault of its own, in the same message."""
    ledger = party.ledgers["flash"]
    theirs = party.keeper.held(party.sales["own"])
    operations = [
        stock.Operation(reserve=reserve_request(party.sales["flash"])),
        stock.Operation(reserve=reserve_request(party.sales["own"])),
        stock.Operation(get_reservation=stock.GetReservationRequest(reservation_id=theirs)),
        stock.Operation(get_reservation=stock.GetReservationRequest(reservation_id="nobody")),
        stock.Operation(reserve=reserve_request(party.sales["flash"])),
    ]
    message = stock.ExchangeRequest(exchange_id=1, operations=operations)
    before = held(party)

    [reply] = ledger.stock.Exchange(iter([message]), timeout=5)

    kinds = [each.WhichOneof("response") for each in reply.replies]
    assert kinds == ["reserve", "fault", "fault", "get_reservation", "reserve"]
    for fault in (reply.replies[1].fault, reply.replies[2].fault):
        assert fault.code == grpc.StatusCode.PERMISSION_DENIED.value[0]
        assert fault.reason == "NOT_PERMITTED"
    unknown = reply.replies[3].get_reservation.result.outcome
    assert unknown == outcome.OUTCOME_UNKNOWN_RESERVATION
    assert held(party) == {"flash": before["flash"] + 2, "own": before["own"]}


def test_an_exchange_on_the_settlement_listener_is_judged_too(party: Party) -> None:
    """The second door asks the same table."""
    theirs = party.keeper.held(party.sales["own"])
    message = stock.ExchangeRequest(
        exchange_id=1, operations=[stock.Operation(confirm=stock.ConfirmRequest(**by_id(theirs)))]
    )

    [denied] = party.ledgers["flash"].settling.Exchange(iter([message]), timeout=5)
    [served] = party.ledgers["payments"].settling.Exchange(iter([message]), timeout=5)

    assert denied.replies[0].fault.reason == "NOT_PERMITTED"
    assert served.replies[0].confirm.result.outcome == outcome.OUTCOME_OK


def test_who_may_do_nothing_opens_no_exchange(party: Party) -> None:
    """The stream itself is refused, on both listeners."""
    ledger = party.ledgers["unlisted"]
    for stub in (ledger.stock, ledger.settling):
        told = refusal_of(partial(stub.Exchange, iter([]), timeout=5))
        assert told.code is grpc.StatusCode.PERMISSION_DENIED
        assert told.metadata["missing"] == "caller"


def test_a_changed_table_counts_at_once_for_open_streams_too(party: Party) -> None:
    """A right that is taken away ends its streams and fails the next operation; others go on."""
    # The table is put back below, because other tests share the server.
    flash = party.ledgers["flash"]
    watch = flash.stock.WatchAvailability(
        stock.WatchAvailabilityRequest(sale_id=party.sales["flash"]), timeout=20
    )
    next(watch)

    narrowed = TABLE.replace('"reserve", "settle", "read", "ExplainReservation"', '"reserve"')
    party.door.change(lambda: party.door.write(narrowed))

    flash.held(party.sales["flash"])
    assert refusal_of(lambda: watch).reason == "NOT_PERMITTED"
    question = stock.GetReservationRequest(reservation_id="nobody")
    told = refusal_of(lambda: flash.stock.GetReservation(question, timeout=5))
    party.door.change(lambda: party.door.write(TABLE))
    assert told.metadata["missing"] == "method"
    flash.stock.GetReservation(question, timeout=5)


def test_reflection_and_channelz_need_a_permission(party: Party) -> None:
    """They show how the server is made and who talks to it."""
    for caller, is_served in (("keeper", True), ("flash", False)):
        for channel in (party.ledgers[caller].data, party.ledgers[caller].settlement):
            opened: Any = channel
            call = opened.unary_unary("/grpc.channelz.v1.Channelz/GetServers")
            if is_served:
                call(b"", timeout=5)
            else:
                assert refusal_of(partial(call, b"", timeout=5)).reason == "NOT_PERMITTED"


def test_an_empty_table_lets_nobody_in(door: Door) -> None:
    """Default deny: a table without a row for a caller denies everything."""
    door.give_token("keeper")
    door.write("")
    text = door.settings_file.read_text()
    door.settings_file.write_text(f"permissions = []\n{text}")
    door.start()
    ledger = door.ledger(door.tokens["keeper"])

    told = refusal_of(lambda: ledger.admin.Audit(admin.AuditRequest(), timeout=5))

    assert told.metadata["missing"] == "caller"
    ledger.close()


WRONG_ROWS = {
    'callers = ["a b"]\nmethods = ["read"]': ("permissions.0.callers", 8, "is not a caller"),
    'callers = ["a"]\nmethods = ["reed"]': ("permissions.0.methods", 9, "neither a method nor"),
    'callers = ["a"]\nmethods = ["read"]\nsales = ["a/b"]': ("permissions.0.sales", 10, "a sale"),
    'callers = ["a"]\nmethods = []': ("permissions.0.methods", 9, "list of methods"),
    'callers = ["a"]': ("permissions.0.methods", 7, "is missing"),
    'callers = ["a"]\nmethods = ["read"]\nsale = ["x"]': ("permissions.0.sale", 10, "not a known"),
}


@pytest.mark.parametrize("row", WRONG_ROWS)
def test_a_wrong_row_is_told_with_line_key_and_advice(door: Door, row: str) -> None:
    """The settings file, the line, the key, what is wrong and what to write instead."""
    from lastunit_server.errors import SettingsError
    from lastunit_server.loading import load_settings

    key, line, words = WRONG_ROWS[row]
    door.give_token("a")
    door.write(f"\n[[permissions]]\n{row}\n")

    with pytest.raises(SettingsError) as caught:
        load_settings(door.settings_file, environment={})

    [problem] = caught.value.problems
    assert problem.source == f"{door.settings_file}:{line}"
    assert problem.key == key
    assert words in f"{problem.message} {problem.advice}"


def test_a_table_without_authentication_is_refused(tmp_path: Path) -> None:
    """A table over names that callers give themselves would protect nothing."""
    from lastunit_server.errors import SettingsError
    from lastunit_server.loading import load_settings

    file = tmp_path / "server.toml"
    file.write_text('[[permissions]]\ncallers = ["a"]\nmethods = ["read"]\n')

    with pytest.raises(SettingsError, match="trust the name that a caller gives"):
        load_settings(file, environment={})
