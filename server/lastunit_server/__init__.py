"""The gRPC server of the stock ledger.

Owns the way from a socket to the native node and back: listeners, settings, life cycle, command
line. Holds no stock rule: those live in the Rust engine behind `lastunit_server._native`.
Next: `cli` (what an operator types), `serve` (how the parts start and stop).
"""
