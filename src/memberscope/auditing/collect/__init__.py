"""What is asked of the target and the reference models before anything is scored, and its forecast."""
