"""Hypothesis chooses what is asked, step by step, and shrinks what it finds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from lastunit.reference import Ledger
from lastunit.reference.words import duration, timestamp
from lastunit.stock.v1 import reservation_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

from .comparing import Pair
from .histories import START_MS, Clock, Reopen
from .real import RealLedger

SALE = "sale"
WHO = {"actor": "operator", "reason": "drill"}
# Few ids, so that requests meet; the same id with other content is as likely as without.
SKUS = st.sampled_from(["red", "blue"])
POOLS = st.sampled_from(["north", "south"])
RESERVATIONS = st.sampled_from(["r1", "r2", "r3", "r4", "r5"])
ATTEMPTS = st.sampled_from(["a1", "a2", "a3", "a4", "a5", "a6"])
REQUESTS = st.integers(1, 40).map(lambda number: f"q{number}")
PERSONS = st.sampled_from(["p1", "p2", "p3"])
LINES = st.lists(
    st.builds(
        reservation_pb2.Line,
        sku=SKUS,
        pool=st.one_of(st.just(""), POOLS),
        units=st.integers(1, 3),
    ),
    min_size=1,
    max_size=3,
)


class LedgerMachine(RuleBasedStateMachine):
    """Asks model and ledger the same; every step compares the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="lastunit-differential-")
        self.real = RealLedger(Path(self.directory.name), now_ms=START_MS)
        self.model = Ledger(now_ms=START_MS, is_journal_kept=True, epoch=self.real.epoch)
        self.pair = Pair(self.model, self.real, batch_max=1)

    def ask(self, operation: Any) -> None:
        """Asks both; a difference fails."""
        found = self.pair.play([operation])

        assert found is None, str(found)

    @initialize(
        per_sku=st.sampled_from([0, 2]),
        unpaid=st.sampled_from([0, 1, 2]),
        max_life=st.sampled_from([600, 1800]),
        units=st.integers(1, 4),
        buffer=st.integers(0, 2),
    )
    def make_sale(self, per_sku: int, unpaid: int, max_life: int, units: int, buffer: int) -> None:
        """Makes a sale of two skus in two pools."""
        policy = sale_pb2.SalePolicy(
            units_per_person_per_sku_max=per_sku,
            unpaid_reservations_per_person_max=unpaid,
            max_life=duration(max_life * 1000),
            is_unverified_release_allowed=True,
        )
        self.ask(admin_pb2.PutSaleRequest(request_id="s0", sale_id=SALE, policy=policy, **WHO))
        for number, (sku, pool) in enumerate(
            (sku, pool) for sku in ("red", "blue") for pool in ("south", "north")
        ):
            where = {"sale_id": SALE, "sku": sku, "pool": pool} | WHO
            self.ask(
                admin_pb2.PutPoolRequest(
                    request_id=f"s1{number}", position=number, is_offered=True, **where
                )
            )
            self.ask(admin_pb2.SupplyStockRequest(request_id=f"s2{number}", units=units, **where))
            if buffer:
                self.ask(
                    admin_pb2.SupplyStockRequest(
                        request_id=f"s3{number}", units=buffer, is_buffer=True, **where
                    )
                )

    @rule(name=RESERVATIONS, person=PERSONS, lines=LINES, ttl=st.sampled_from([0, 30, 9000]))
    def reserve(self, name: str, person: str, lines: list[Any], ttl: int) -> None:
        """Asks for units; the id may have come before."""
        request = stock_pb2.ReserveRequest(
            reservation_id=name, sale_id=SALE, person_id=person, lines=lines
        )
        if ttl:
            request.ttl.CopyFrom(duration(ttl * 1000))
        self.ask(request)

    @rule(name=RESERVATIONS, attempt=ATTEMPTS)
    def begin(self, name: str, attempt: str) -> None:
        """Opens an attempt."""
        self.ask(stock_pb2.BeginPaymentRequest(reservation_id=name, attempt_id=attempt))

    @rule(
        request=REQUESTS,
        name=RESERVATIONS,
        attempt=ATTEMPTS,
        result=st.sampled_from([1, 1, 2, 3]),
        lag=st.sampled_from([None, 0, 100]),
    )
    def settle(self, request: str, name: str, attempt: str, result: Any, lag: int | None) -> None:
        """Reports what a provider said."""
        message = stock_pb2.SettlePaymentRequest(
            request_id=request, reservation_id=name, attempt_id=attempt, payment_result=result
        )
        if lag is not None:
            message.occurred_time.CopyFrom(timestamp(self.model.now - lag * 1000))
        self.ask(message)

    @rule(request=REQUESTS, name=RESERVATIONS)
    def confirm(self, request: str, name: str) -> None:
        """Sells without a payment."""
        self.ask(stock_pb2.ConfirmRequest(request_id=request, reservation_id=name))

    @rule(request=REQUESTS, name=RESERVATIONS, reason=st.sampled_from([1, 5]))
    def release(self, request: str, name: str, reason: Any) -> None:
        """Gives units back."""
        message = stock_pb2.ReleaseRequest(
            request_id=request, reservation_id=name, release_reason=reason
        )
        self.ask(message)

    @rule(request=REQUESTS, name=RESERVATIONS, seconds=st.sampled_from([1, 500, 1700, 1800]))
    def extend(self, request: str, name: str, seconds: int) -> None:
        """Prolongs a hold."""
        span = duration(seconds * 1000)
        self.ask(stock_pb2.ExtendRequest(request_id=request, reservation_id=name, extension=span))

    @rule(
        request=REQUESTS,
        name=RESERVATIONS,
        sku=SKUS,
        units=st.integers(1, 2),
        disposition=st.sampled_from([1, 2, 3]),
    )
    def return_units(self, request: str, name: str, sku: str, units: int, disposition: Any) -> None:
        """Books goods that came back."""
        message = stock_pb2.ReturnRequest(
            request_id=request,
            reservation_id=name,
            sku=sku,
            units=units,
            disposition=disposition,
        )
        self.ask(message)

    @rule(request=REQUESTS, name=RESERVATIONS, attempt=ATTEMPTS)
    def record_refund(self, request: str, name: str, attempt: str) -> None:
        """Records that money went back."""
        message = stock_pb2.RecordRefundRequest(
            request_id=request, reservation_id=name, attempt_id=attempt
        )
        self.ask(message)

    @rule(request=REQUESTS, name=RESERVATIONS)
    def release_unverified(self, request: str, name: str) -> None:
        """Gives units back without the provider's word."""
        self.ask(admin_pb2.ReleaseUnverifiedRequest(request_id=request, reservation_id=name, **WHO))

    @rule(request=REQUESTS, state=st.sampled_from([2, 2, 3, 4, 5]))
    def move_sale(self, request: str, state: Any) -> None:
        """Moves the sale."""
        message = admin_pb2.SetSaleStateRequest(
            request_id=request, sale_id=SALE, state=state, **WHO
        )
        self.ask(message)

    @rule(request=REQUESTS, first=PERSONS, second=PERSONS)
    def merge(self, request: str, first: str, second: str) -> None:
        """Counts one person as another."""
        message = admin_pb2.MergePersonsRequest(
            request_id=request, source_person_id=first, target_person_id=second, **WHO
        )
        self.ask(message)

    @rule(request=REQUESTS, persons=st.lists(PERSONS, min_size=1, max_size=3, unique=True))
    def split(self, request: str, persons: list[str]) -> None:
        """Counts persons apart."""
        self.ask(admin_pb2.SplitPersonsRequest(request_id=request, person_ids=persons, **WHO))

    @rule(seconds=st.sampled_from([0, 1, 30, 60, 600, 900, 1800]))
    def wait(self, seconds: int) -> None:
        """Lets time pass."""
        self.ask(Clock(seconds * 1000))

    @rule(is_clean=st.booleans())
    def open_again(self, *, is_clean: bool) -> None:
        """Closes or kills the ledger and opens it."""
        self.ask(Reopen(is_clean))

    def teardown(self) -> None:
        """Compares everything that can be seen."""
        found = self.pair.compare_all(0)
        self.real.close()
        self.directory.cleanup()

        assert found is None, str(found)
        assert self.model.check() == []


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
