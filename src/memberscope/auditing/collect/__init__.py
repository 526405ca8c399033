"""What is asked of the target and the reference models before anything is scored.

And its forecast.
"""
