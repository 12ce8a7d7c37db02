"""Tests of the payment service without wires: fakes for ledger and time, real databases."""
