"""Hash clients and records with the guard's secret key."""

from memberscope.guard.hashing.secret_key import (
    Secret,
    read_secrets,
    rotate_secrets,
    write_secrets,
)

__all__ = ["Secret", "read_secrets", "rotate_secrets", "write_secrets"]
