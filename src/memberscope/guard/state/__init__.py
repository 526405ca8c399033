"""Share token buckets, responses and observations, in memory or in Redis."""
