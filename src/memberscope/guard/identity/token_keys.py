"""Read the keys that tokens are verified with, each for the algorithms that its kind has.

A key is bound to asymmetric algorithms of its own kind (and to the one that a key set names for
it), so that no token chooses what it is verified with [1]. The one exception is a file that holds
nothing but the secret of HS256 or HS512.

References:
    1. Y. Sheffer, D. Hardt, M. Jones: JSON Web Token Best Current Practices. RFC 8725, section 3.1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from memberscope.errors import InputError
from memberscope.guard.policy.tables import Jwt

LONGEST = 2**20  # bytes of a file or document of keys
MOST = 100  # keys of a set
RSA_BITS = 2048  # as NIST SP 800-131A asks
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class TokenKey(NamedTuple):
    """Public key (or secret) with its name in the set, and the algorithms it may verify."""

    kid: str | None
    key: Any
    algorithms: tuple[str, ...]


def parse_token_keys(content: bytes, jwt: Jwt, where: str) -> tuple[TokenKey, ...]:
    """Parse a public key (PEM), a JSON Web Key Set, or a secret; `where` is for the sentence.

    Raises:
        InputError: It is none, fits none of the algorithms, holds private keys, or is too weak. The
            sentence quotes none of it.
    """
    if len(content) > LONGEST:
        raise InputError(
            f"Expected at most {LONGEST} bytes of keys in {where}, got more. Give the keys alone."
        )
    secret = jwt.algorithms[0].startswith("HS")
    if not secret and content.lstrip()[:1] == b"{":
        return _parse_key_set(content, jwt, where)
    return (_parse_single_key(content, jwt, where, secret=secret),)


def _parse_key_set(content: bytes, jwt: Jwt, where: str) -> tuple[TokenKey, ...]:
    """Parse a JSON Web Key Set (RFC 7517); keys of other kinds and for other uses are left out.

    Raises:
        InputError: It is none, or no key is left, or one is private.
    """
    from jwt import PyJWKSet, PyJWTError

    try:
        listed = json.loads(content)["keys"]
        found = []
        for entry in listed[:MOST]:
            # A secret in a set that others can read is none
            if entry.get("kty") == "oct" or entry.get("use", "sig") != "sig":
                continue
            try:
                (parsed,) = PyJWKSet([entry]).keys
            except PyJWTError:
                # As the library does in a set: a key of a kind that it does not know is left out
                continue
            _require_public(parsed.key, where)
            named, kid = entry.get("alg"), entry.get("kid")
            fitting = [word for word in list_fitting(parsed.key, jwt) if named in (None, word)]
            if fitting:
                name = kid if isinstance(kid, str) else None
                found.append(TokenKey(name, parsed.key, tuple(fitting)))
    # Errors of the library quote the keys, so that none of them is told
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(
            f"Expected a JSON Web Key Set in {where}, got something else. Give the issuer's."
        ) from None
    if not found:
        raise InputError(
            f"Expected a key for {', '.join(jwt.algorithms)} in {where}, got none. List the "
            "algorithms that your issuer signs with."
        )
    return tuple(found)


def _parse_single_key(content: bytes, jwt: Jwt, where: str, *, secret: bool) -> TokenKey:
    """Parse a public key (PEM) or a secret.

    Raises:
        InputError: It is none, fits none of the algorithms, or is too short to be a secret.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from jwt import PyJWTError
    from jwt.algorithms import get_default_algorithms

    if secret:
        # Editors end a file with a line break, which is no part of the secret
        content = content.strip()
        # As long as the hash, as RFC 7518 asks (section 3.2)
        least = max(int(word[2:]) // 8 for word in jwt.algorithms)
        if len(content) < least:
            raise InputError(
                f"Expected a secret of at least {least} bytes in {where}, got {len(content)}. Draw "
                "a longer one."
            )
    for word in jwt.algorithms:
        try:
            key = get_default_algorithms()[word].prepare_key(content)
        except (PyJWTError, ValueError, TypeError, UnsupportedAlgorithm):
            continue
        if secret:
            return TokenKey(None, key, jwt.algorithms)
        _require_public(key, where)
        return TokenKey(None, key, tuple(list_fitting(key, jwt)))
    raise InputError(
        f"Expected a key for {', '.join(jwt.algorithms)} in {where}, got something else. Give the "
        "issuer's public key (PEM) or key set."
    )


def _require_public(key: Any, where: str) -> None:
    """Refuse private keys, and public ones that are too short.

    Raises:
        InputError: It is one of them.
    """
    if hasattr(key, "private_bytes"):
        raise InputError(
            f"Expected a public key in {where}, got a private one. The guard only verifies: keep "
            "it away."
        )
    if hasattr(key, "public_numbers") and hasattr(key, "encrypt") and key.key_size < RSA_BITS:
        raise InputError(
            f"Expected an RSA key of at least {RSA_BITS} bits in {where}, got {key.key_size}. Have "
            "the issuer draw a longer one."
        )


def list_fitting(key: Any, jwt: Jwt) -> Sequence[str]:
    """List the policy's algorithms that a public key can verify."""
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve is not None:
        return [word for word in jwt.algorithms if word == CURVES.get(curve)]
    # Only RSA keys can encrypt too
    if hasattr(key, "encrypt"):
        return [word for word in jwt.algorithms if word[:2] in ("RS", "PS")]
    return [word for word in jwt.algorithms if word == "EdDSA"]
