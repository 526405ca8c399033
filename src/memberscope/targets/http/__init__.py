"""Served models as targets: requests, pace, retries and the ledger of what was sent."""
