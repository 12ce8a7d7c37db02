"""The revisions of the order database; docs/operating/database.md says how one is added."""
