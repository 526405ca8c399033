"""Requests parsed and written anew for the model, and its answers for the client."""
