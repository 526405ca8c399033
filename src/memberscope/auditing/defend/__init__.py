"""Defences side by side: the sweep, and what each buys and costs."""
