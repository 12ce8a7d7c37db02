"""Alerts and dashboard: checked by the tools of their ecosystem, and against a real server."""
