"""Recorded histories of many clients, and the checks that every reply in them must pass."""
