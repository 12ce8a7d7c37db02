"""Writes the next revision of a database from what its tables have become.

Owns: the comparison of the landed revisions with the tables of the program, and the new file's
form. What it writes is a draft: rows that exist need values for new columns, and a renamed column
looks like a dropped one. Read it, mend it, and let tests/integration/storage judge it.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

from lastunit.service import migrations
from lastunit.service.database import open_engine

if TYPE_CHECKING:
    import sqlalchemy as sa

CLIENTS = Path(__file__).resolve().parent.parent / "clients"

# Database -> where its tables are.
TABLES = {
    "order": ("lastunit.order.schema", "ORDER_METADATA"),
    "payment": ("lastunit.payment.schema", "PAYMENT_METADATA"),
    "inbox": ("lastunit.payment.schema", "INBOX_METADATA"),
    "account": ("lastunit.account._tables", "metadata"),
}

FORM = '''"""{title}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """{title}."""
    {code}
'''


def main() -> None:
    """Writes the file and says where it is."""
    name, title = [*sys.argv[1:], "", ""][:2]
    if name not in TABLES or not title:
        sys.exit(f"usage: new_migration.py {'|'.join(TABLES)} 'What changes, as a sentence'")
    title = title.rstrip(".")
    module, attribute = TABLES[name]
    metadata: sa.MetaData = getattr(importlib.import_module(module), attribute)
    owner = migrations.migrations_of(metadata)
    assert owner is not None
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(Path(folder) / "landed.sqlite", is_flushed=False)
        newest = migrations.upgrade(engine, owner).newest
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            script = produce_migrations(context, metadata)
        engine.dispose()
    operations = script.upgrade_ops
    if operations is None or operations.is_empty():
        sys.exit(f"the tables of {name} are as revision {newest} makes them")
    revision = f"{int(newest) + 1:04}"
    slug = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40]
    target = CLIENTS.joinpath(*owner.package.split("."), "versions", f"v{revision}_{slug}.py")
    code = render_python_code(operations, render_as_batch=True)
    code = re.sub(r"^ *# .*\n?", "", code, flags=re.MULTILINE).strip()
    form = FORM.format(title=title, revision=revision, before=newest, code=code)
    target.write_text(form, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "check", "--fix", "-q", target], check=False)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", target], check=True)
    print(f"{target.relative_to(CLIENTS.parent)}: a draft; give rows that exist their values")


if __name__ == "__main__":
    main()
