"""Verify JSON Web Tokens with the algorithms, key, audience and issuer of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memberscope.errors import InputError
from memberscope.guard.identity.subjects import parse_subject
from memberscope.guard.policy.tables import Jwt


class Tokens:
    """Verify JSON Web Tokens with the listed algorithms alone."""

    def __init__(self, jwt: Jwt, home: Path) -> None:
        """Read the key.

        Raises:
            InputError: It cannot be read, does not fit the algorithms, or is too short to be a
                secret.
        """
        self.jwt = jwt
        # With both families, a token could be signed with the public key as a secret
        if not jwt.algorithms or len({word[:2] for word in jwt.algorithms}) > 1:
            raise InputError(
                "Expected algorithms of one family in [identity.jwt], got "
                f"{', '.join(jwt.algorithms) or 'none'}. "
                "A public key must not serve as the secret of HS256; list those that your issuer "
                "signs with."
            )
        self.key = _read_jwt_key(jwt, home / jwt.key_file)

    def subject(self, header: bytes) -> str | None:
        """Give the token's subject if signature, dates, audience and issuer are right."""
        import jwt

        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        try:
            claims = jwt.decode(
                token.strip(),
                self.key,
                algorithms=list(self.jwt.algorithms),
                audience=self.jwt.audience,
                issuer=self.jwt.issuer,
                options={"require": self.required()},
            )
        # Odd tokens raise more than the library's own
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        found = claims.get(self.jwt.subject)
        return parse_subject(found.encode()) if isinstance(found, str) else None

    def required(self) -> list[str]:
        """List the claims that a token must have."""
        given = [("aud", self.jwt.audience), ("iss", self.jwt.issuer)]
        # PyJWT checks a claim only where it is there, so that those needed are required
        return ["exp", self.jwt.subject, *(name for name, value in given if value is not None)]


def _read_jwt_key(jwt: Jwt, path: Path) -> Any:
    """Read the public key, or the secret, from a file.

    Raises:
        InputError: It cannot be read, does not fit the algorithms, or is too short to be a secret.
    """
    from jwt import PyJWTError
    from jwt.algorithms import get_default_algorithms

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Expected the key of [identity.jwt] in {str(path)!r}, got {error.strerror}. Check "
            "key_file."
        ) from error
    secret = jwt.algorithms[0].startswith("HS")
    if secret:
        # Editors end a file with a line break, which is no part of the secret
        content = content.strip()
        # As long as the hash, as RFC 7518 asks (section 3.2)
        least = max(int(word[2:]) // 8 for word in jwt.algorithms)
        if len(content) < least:
            raise InputError(
                f"Expected a secret of at least {least} bytes in {str(path)!r}, got "
                f"{len(content)}. Draw a longer one."
            )
    try:
        key = get_default_algorithms()[jwt.algorithms[0]].prepare_key(content)
    except (PyJWTError, ValueError, TypeError) as error:
        raise InputError(
            f"Expected a key for {jwt.algorithms[0]} in {str(path)!r}, got something else. Give "
            "the issuer's public key (PEM)."
        ) from error
    if not secret and not hasattr(key, "verify"):
        raise InputError(
            f"Expected a public key in {str(path)!r}, got a private one. The guard only verifies: "
            "keep it away."
        )
    return key
