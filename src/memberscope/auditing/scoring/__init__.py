"""Attacks of the plan run on the evidence, cross-fitted where they learn."""
