"""A stored log through the detectors, and the campaigns found in it."""
