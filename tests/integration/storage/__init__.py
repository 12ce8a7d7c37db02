"""The databases of the services on SQLite and PostgreSQL: revisions, outages, two processes."""
