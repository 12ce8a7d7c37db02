"""Tests of the native node from Python."""
