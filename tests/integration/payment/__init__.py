"""Orders and payments over the real ledger server, on its manual clock."""
