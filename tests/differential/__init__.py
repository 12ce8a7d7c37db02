"""The reference model and the real ledger, side by side over whole histories."""
