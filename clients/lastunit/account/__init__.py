"""The account service: who stands behind a login.

Owns accounts, the persons behind them and the identifiers that lead to them, which it keeps only
as keyed digests. Must not know stock, orders or money. Read on in the README; start it with
`lastunit account serve`.
"""
