"""Decide before a request is read whether its sender may take any work: shares and charges."""
