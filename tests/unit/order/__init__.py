"""Tests of the order service without wires: a small ledger in memory, real databases."""
