"""What the numbers that a model returns are: probabilities, logits, labels, and whose decision counts."""
