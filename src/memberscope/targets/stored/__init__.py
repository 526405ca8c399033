"""Signals that were stored elsewhere: a table of answers with membership."""
