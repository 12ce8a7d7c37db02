"""The kit that every Python service of lastunit is built from.

Owns what account, order and payment share: time, the database, the gRPC server and the log.
Must not hold business rules. Read on in `clock`, `database`, `faults`, `server` and `log`.
"""
