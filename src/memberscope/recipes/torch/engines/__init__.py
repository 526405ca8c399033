"""Engines that train the modules of a task, with DP-SGD or without.

They go one by one, stack weights, or use vmap.
"""
