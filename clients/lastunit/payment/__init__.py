"""The payment service: the life of every attempt to pay, and nobody else talks to providers.

Owns attempts, the inbox of callbacks, refunds, and the asking. Must not decide on stock: it tells
the ledger what the provider said, and believes neither silence nor a clock.
Next: `states` (the table), `core` (the steps), `webhook` (the door), `sandbox` (the provider).
"""
