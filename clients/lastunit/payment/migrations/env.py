"""Is run by Alembic: revisions of the payment database."""

from lastunit.payment.schema import PAYMENT_METADATA
from lastunit.service.migrations import run_environment

run_environment(PAYMENT_METADATA)
