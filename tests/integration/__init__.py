"""Tests over real processes, sockets and files."""
