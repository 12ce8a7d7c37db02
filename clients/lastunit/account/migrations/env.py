"""Is run by Alembic: revisions of the account database."""

from lastunit.account._tables import metadata
from lastunit.service.migrations import run_environment

run_environment(metadata)
