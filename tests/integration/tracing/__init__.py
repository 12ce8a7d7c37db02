"""Spans across the processes of a sale."""
