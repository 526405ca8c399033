"""Statistics of collections: tests, shares and lists from scores, membership and units."""
