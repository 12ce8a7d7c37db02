"""The revisions of the inbox; docs/operating/database.md says how one is added."""
