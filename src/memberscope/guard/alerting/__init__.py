"""Alerts: log, webhook, digest and Prometheus metrics."""
