"""Collect what is asked of the target and the reference models before anything is scored.

The same steps make up its forecast.
"""
