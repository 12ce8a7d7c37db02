"""A reference model of the stock ledger, in plain Python, to test against.

Owns the rules of the contract a second time, written from its words and not from the real ledger's
code, and compared with it over millions of random operations. Must not be used to sell: it keeps
everything in memory and forgets it with the process.

    >>> from lastunit.reference import Ledger
    >>> from lastunit.stock.v1 import stock_service_pb2 as stock
    >>> ledger = Ledger(now_ms=0)
    >>> ledger.apply(stock.GetReservationRequest(reservation_id="nobody")).result.outcome
    6

Read on in `ledger` for what can be called, in `requests` for which rule serves which method.
"""

from lastunit.reference.ledger import Ledger

__all__ = ["Ledger"]
