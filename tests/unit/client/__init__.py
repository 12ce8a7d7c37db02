"""The client library against a scripted ledger."""
