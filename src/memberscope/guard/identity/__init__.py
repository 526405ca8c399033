"""Who a client is, and which class of clients it belongs to."""
