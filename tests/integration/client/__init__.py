"""The client library against the real ledger server."""
