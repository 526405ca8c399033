"""The guard's secret key and the pseudonyms made with it."""

from memberscope.guard.hashing.secret_key import Secret, read_secrets, write_secrets

__all__ = ["Secret", "read_secrets", "write_secrets"]
