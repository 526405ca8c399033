"""Served models as targets: requests, rate limits, retries and the ledger of what was sent."""

from memberscope.targets.http.transport import strip_url

__all__ = ["strip_url"]
