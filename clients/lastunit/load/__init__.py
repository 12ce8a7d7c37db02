"""Buyers over gRPC: the load of the live run.

Owns: what a buyer does, how thousands of them are kept open at once, and what they were told.
Must not know how the services are started. Next: ``buyer.py``.
"""
