"""Draw what randomised output defences need from a secret key and the answer alone.

Who does not have the key cannot tell the draws from coins: they are keyed BLAKE2b [1], and beyond
its 64 bytes SHAKE-256 of them [2]. The same answer always gets the same draw, so that asking again
averages nothing out.

References:
    [1] M.-J. Saarinen, J.-P. Aumasson, "The BLAKE2 Cryptographic Hash and Message Authentication
        Code (MAC)", RFC 7693, 2015.
    [2] NIST, "SHA-3 Standard", FIPS 202, 2015.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError
from memberscope.types import Floats

Words = NDArray[np.uint64]
KEY_BYTES, LEAST_KEY_BYTES = 32, 16
# Answers that agree in so many parts of one get the same draw: later digits differ between batch
# sizes and machines
ANSWER_STEPS = 1e6
HIDDEN = np.int64(-(2**62))  # stands for a class that is hidden


def derive_noise_key(secret: bytes, purpose: str) -> bytes:
    """Derive a key of 32 bytes for `purpose` from a secret of at most 64 bytes.

    >>> derive_noise_key(bytes(32), "guard") == derive_noise_key(bytes(32), "model 1")
    False
    """
    return hashlib.blake2b(
        purpose.encode(), digest_size=KEY_BYTES, key=secret, person=b"noise key"
    ).digest()


def derive_public_key(seed: int) -> bytes:
    """Derive the key of a seed that is written in a name, and so known to everybody."""
    return hashlib.blake2b(str(seed).encode(), digest_size=KEY_BYTES, person=b"noise seed").digest()


def digest_noise_key(key: bytes) -> str:
    """Hash a key to 16 hexadecimal digits, to tell answers under different keys apart."""
    return hashlib.blake2b(digest_size=8, key=key, person=b"noise digest").hexdigest()


def require_noise_key(name: str, seed: int | None, key: bytes | None) -> bytes:
    """Give the key that a defence draws by: its secret one, or that of the seed in its name.

    Raises:
        InputError: There is neither.
    """
    if seed is not None:
        return derive_public_key(seed)
    if key is None:
        raise InputError(
            f"Expected a key for {name}, got none: its draws must be secret. Add one with "
            f"with_noise_key(defence, os.urandom({KEY_BYTES}))."
        )
    return key


def check_noise_key(seed: int | None, key: bytes | None, example: str) -> None:
    """Refuse a seed that does not fit into 64 bits, and a key that is too short or too long.

    Raises:
        InputError: One of them is; the sentence does not repeat the key.
    """
    if seed is not None and not 0 <= seed < 2**64:
        raise InputError(f"Expected a noise seed of 0 to 2^64 - 1, got {seed}. Give {example}.")
    if key is not None and not LEAST_KEY_BYTES <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise InputError(
            f"Expected a noise key of {LEAST_KEY_BYTES} to {hashlib.blake2b.MAX_KEY_SIZE} bytes, "
            f"got {len(key)}. Give os.urandom({KEY_BYTES})."
        )


def draw_keyed_words(answers: Floats, key: bytes, name: str, n_words: int = 1) -> Words:
    """Draw words (n, n_words) for answers (n, k), from each answer, `key` and `name` alone.

    Defences of other names draw independently, so that their answers about one record together
    tell no more than each.

    >>> answers = np.array([[0.1, 0.9], [-0.0, 1.0], [0.0, 1.0]])
    >>> drawn = draw_keyed_words(answers, bytes(32), "noise:0.5")[:, 0]
    >>> bool(drawn[0] == drawn[1]), bool(drawn[1] == drawn[2])
    (False, True)
    """
    drawn: Words = draw_words_by_keys(answers, [key], name, n_words)[0]
    return drawn


def draw_words_by_keys(
    answers: Floats, keys: Sequence[bytes], name: str, n_words: int = 1
) -> Words:
    """Draw words (len(keys), n, n_words) as `draw_keyed_words` does by each key."""
    rows, found = _encode_answers(answers), []
    for key in keys:
        own = hashlib.blake2b(name.encode(), digest_size=KEY_BYTES, key=key, person=b"noise draw")
        # Set up once: copying it is faster than setting up the key for each answer
        start = hashlib.blake2b(key=own.digest())
        for row in rows:
            one = start.copy()
            one.update(row)
            found.append(_expand_digest(one.digest(), 8 * n_words))
    words = np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)
    return words.reshape(len(keys), len(answers), n_words)


def _expand_digest(digest: bytes, size: int) -> bytes:
    """Expand 64 secret bytes to `size`."""
    return digest[:size] if size <= len(digest) else hashlib.shake_256(digest).digest(size)


def _encode_answers(answers: Floats) -> list[bytes]:
    """Encode each answer (n, k) as whole millionths, which -0.0 and the type do not change."""
    steps = np.rint(np.asarray(answers, dtype=np.float64) * ANSWER_STEPS)
    whole = np.where(np.isnan(steps), 0.0, steps).astype("<i8")
    whole[np.isnan(steps)] = HIDDEN
    return [row.tobytes() for row in np.ascontiguousarray(whole)]


def map_to_uniform(words: Words) -> Floats:
    """Map words to numbers strictly between 0 and 1."""
    # A double holds 53 bits; the half keeps away from 0, where normal numbers are infinite
    return np.asarray(
        ((words >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53, dtype=np.float64
    )
