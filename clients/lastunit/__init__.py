"""lastunit: client library and services around the stock ledger."""
