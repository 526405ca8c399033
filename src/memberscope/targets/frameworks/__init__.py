"""Wrap models of each framework as targets, and find the task that a model is for."""
