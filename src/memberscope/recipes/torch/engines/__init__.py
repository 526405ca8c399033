"""Engines that train the modules of a task: one by one, stacked, or by vmap.

With DP-SGD or without.
"""
