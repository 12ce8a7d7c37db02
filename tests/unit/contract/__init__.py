"""Tests of the contract: its bytes, its rules and its stubs."""
