"""Admission seen from a client."""
