"""Model files and what they say of themselves.

Checked before a library that trusts them opens them.
"""
