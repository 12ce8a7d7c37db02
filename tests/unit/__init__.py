"""Tests without wires: fast, in one process."""
