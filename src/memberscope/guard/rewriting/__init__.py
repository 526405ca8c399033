"""Rewrite requests for the model and its answers for the client."""
