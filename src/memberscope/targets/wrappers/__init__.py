"""Targets in front of other targets: an output defence, or a count of queries."""
