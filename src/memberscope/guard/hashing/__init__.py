"""Hash clients and records with the guard's secret key, records in one canonical form."""

from memberscope.guard.hashing.canonical import (
    CANONICAL_VERSION,
    CanonicalBatch,
    RecordForm,
    UnreadableRecord,
    canonicalise_records,
    encode_canonical_records,
)
from memberscope.guard.hashing.secret_key import (
    RESTART,
    Secret,
    create_key_file,
    read_secrets,
    rotate_secrets,
    write_secrets,
)

__all__ = [
    "CANONICAL_VERSION",
    "CanonicalBatch",
    "RESTART",
    "RecordForm",
    "Secret",
    "UnreadableRecord",
    "canonicalise_records",
    "create_key_file",
    "encode_canonical_records",
    "read_secrets",
    "rotate_secrets",
    "write_secrets",
]
