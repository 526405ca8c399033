"""Forward requests to the servers of a model."""
