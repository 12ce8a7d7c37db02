"""Tests of prices: pure functions, tried with random catalogues."""
