"""What an open model shows of each record: gradients, activations and self-influence."""
