"""Detectors of probing, each on what is remembered of a client."""
