"""The revisions of the payment database; docs/operating/database.md says how one is added."""
