"""Is run by Alembic: revisions of the order database."""

from lastunit.order.schema import ORDER_METADATA
from lastunit.service.migrations import run_environment

run_environment(ORDER_METADATA)
