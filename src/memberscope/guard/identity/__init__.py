"""Identify clients and find their class."""
