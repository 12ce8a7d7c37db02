"""The revisions of the account database; docs/operating/database.md says how one is added."""
