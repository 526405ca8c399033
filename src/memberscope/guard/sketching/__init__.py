"""Sketches of queries: features, near-duplicates and fingerprints."""
