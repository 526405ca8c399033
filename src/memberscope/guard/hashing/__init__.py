"""The guard's secret key and the pseudonyms made with it."""
