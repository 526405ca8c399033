"""Detect probing, each detector on the history of a client."""
