"""Read model files and what they declare.

They are checked before a library that trusts them opens them.
"""
