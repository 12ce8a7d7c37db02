"""Sums up the pressure of all processes of the order service, so that one of them reports it.

Owns the rows that the processes share. Must not slow anything down: it has a session of its own
and waits for no disk. Next: `lastunit.order.pressure` (what one process measures).

The ledger's credit window listens to one reporter, whose count never falls: it takes the grants
that were persisted away from those it waits for. Two processes that reported each for itself would
be one reporter that starts anew again and again, and grants of the other would never be counted.
"""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from lastunit.admission.v1 import admission_service_pb2
from lastunit.order import schema, store
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from lastunit.service.database import Database
    from lastunit.service.leadership import Leadership

__all__ = ["SharedPressure"]

# A process that has written nothing for so long has died; what it persisted still counts.
LIVE_MS: Final = 1_000
# After this its row is removed by the next one that takes the lead, whose count begins anew.
_KEPT_MS: Final = 3_600_000

# By the server's clock: those of two machines differ.
_NOW_MS: Final = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000, sa.BigInteger)
_AGE_MS: Final = _NOW_MS - schema.pressures.c.update_ms
_IS_LIVE: Final = sa.bindparam("live_ms", type_=sa.BigInteger) > _AGE_MS

_log: Final = logging.getLogger(__name__)


def _sum_live(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(column).filter(_IS_LIVE), 0), sa.BigInteger)


_ROWS: Final = schema.pressures.c
_SUMS: Final = sa.select(
    sa.cast(sa.func.coalesce(sa.func.sum(_ROWS.persisted_count), 0), sa.BigInteger).label(
        "persisted_count"
    ),
    _sum_live(_ROWS.queue_count).label("queue_count"),
    _sum_live(_ROWS.work_per_second_milli).label("work_per_second_milli"),
    # Each counts its own units and everybody's paid orders, so these add up too.
    _sum_live(_ROWS.work_per_order_milli).label("work_per_order_milli"),
    sa.func.coalesce(sa.func.max(_ROWS.oldest_wait_ms).filter(_IS_LIVE), 0).label("oldest_wait_ms"),
)


class SharedPressure:
    """Adds what this process reports to what the others do.

    Args:
        database: Of the order service, on PostgreSQL.
        leadership: Says whether this process speaks for all.
    """

    def __init__(self, database: Database, leadership: Leadership) -> None:
        self._database = database
        self._leadership = leadership
        self._process_id = uuid.uuid4().hex
        self._connection: sa.Connection | None = None
        # Of the lead that this process has now; 0: it has none.
        self._generation = 0
        self._told_count = 0

    def merge(
        self, own: admission_service_pb2.ReportPressureRequest
    ) -> admission_service_pb2.ReportPressureRequest | None:
        """Shares a report with the other processes.

        Args:
            own: What this process measures by itself.

        Returns:
            What to report for all; None while another process does.
        """
        try:
            return self._merge(own)
        except sa.exc.DBAPIError:
            self.close()
            raise

    def close(self) -> None:
        """Ends the session; the next `merge` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _merge(
        self, own: admission_service_pb2.ReportPressureRequest
    ) -> admission_service_pb2.ReportPressureRequest | None:
        if self._connection is None:
            engine = self._database.engine
            self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            # Nothing is lost with it: the next report says it again.
            self._connection.exec_driver_sql("SET synchronous_commit = off")
        connection = self._connection
        _write(connection, self._process_id, own)
        if not self._leadership.is_leading:
            self._generation = 0
            return None
        if not self._generation:
            self._begin(connection)
        sums = connection.execute(_SUMS, {"live_ms": LIVE_MS}).one()
        if sums.persisted_count < self._told_count:
            # The rows do not survive a crash of the server; a count must never fall.
            self._begin(connection)
        self._told_count = sums.persisted_count
        report = admission_service_pb2.ReportPressureRequest()
        report.CopyFrom(own)
        report.generation = self._generation
        report.persisted_count = sums.persisted_count
        report.queue_count = sums.queue_count
        report.work_per_second_milli = sums.work_per_second_milli
        report.work_per_order_milli = sums.work_per_order_milli
        report.oldest_wait.FromMilliseconds(sums.oldest_wait_ms)
        return report

    def _begin(self, connection: sa.Connection) -> None:
        """Begins a count of its own, above every generation before."""
        connection.execute(sa.delete(schema.pressures).where(_AGE_MS > _KEPT_MS))
        counted = self._database.writer.submit(store.count_start, lane=Lane.SETTLEMENT)
        self._generation = counted.result()
        _log.info("this process reports pressure", extra={"generation": self._generation})


def _write(
    connection: sa.Connection, process_id: str, own: admission_service_pb2.ReportPressureRequest
) -> None:
    values = {
        "persisted_count": own.persisted_count,
        "queue_count": own.queue_count,
        "work_per_second_milli": own.work_per_second_milli,
        "work_per_order_milli": own.work_per_order_milli,
        "oldest_wait_ms": own.oldest_wait.ToMilliseconds(),
        "update_ms": _NOW_MS,
    }
    statement = postgresql.insert(schema.pressures).values(process_id=process_id, **values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[schema.pressures.c.process_id], set_=values)
    )
