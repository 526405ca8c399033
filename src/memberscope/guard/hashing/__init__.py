"""Hash clients and records with the guard's secret key."""

from memberscope.guard.hashing.secret_key import (
    Secret,
    create_key_file,
    read_secrets,
    write_secrets,
)

__all__ = ["Secret", "create_key_file", "read_secrets", "write_secrets"]
