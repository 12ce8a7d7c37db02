"""Is run by Alembic: revisions of the inbox."""

from lastunit.payment.schema import INBOX_METADATA
from lastunit.service.migrations import run_environment

run_environment(INBOX_METADATA)
