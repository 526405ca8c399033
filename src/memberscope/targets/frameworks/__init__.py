"""Models of each framework as targets, and the task that a model is for."""
