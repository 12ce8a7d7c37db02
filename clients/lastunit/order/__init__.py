"""The order service: one multi-line reservation per order, and what the buyer is told of it.

Owns orders and the numbers of their payment attempts. Must not decide on stock, talk to a payment
provider, or end an order by a clock: the ledger does the first and the last, the payment service
the second. Next: `states` (the table), `core` (the commands), `follower` (the ledger's news).
"""
