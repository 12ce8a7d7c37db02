"""The main job: a whole sale with real services on this machine.

Owns: starting and stopping the services, the live view, the checks and the result.
Must not hold rules of stock, orders or payments. Next: ``job.py``.
"""
