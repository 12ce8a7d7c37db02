"""The client library of the stock ledger.

Owns how a program talks to a ledger: `lastunit.client.aio.StockClient` for asyncio,
`lastunit.client.sync.StockClient` for threads, `lastunit.client.outcomes` for what both return and
`lastunit.errors` for what both raise. Must not know stock rules or services.
"""
