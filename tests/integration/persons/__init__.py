"""Persons with many accounts, over a ledger, an account service and an order service."""
