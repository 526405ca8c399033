"""The forecast of an audit: what it would do, cost and see, before anything is asked."""
