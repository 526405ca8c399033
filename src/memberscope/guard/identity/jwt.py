"""Verify JSON Web Tokens with the algorithms, keys, audience and issuer of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memberscope.errors import InputError
from memberscope.guard.identity.key_sources import open_key_source
from memberscope.guard.identity.subjects import WrongCredential, parse_subject
from memberscope.guard.identity.token_keys import TokenKey
from memberscope.guard.policy.tables import Jwt

TRIED = 8  # keys that a token is tried with, where it does not name its own


class Tokens:
    """Verify JSON Web Tokens with the listed algorithms alone."""

    def __init__(self, jwt: Jwt, home: Path) -> None:
        """Read the keys; those at an address are not waited for.

        Raises:
            InputError: They cannot be read, do not fit the algorithms, or are too short.
        """
        self.jwt = jwt
        # With both families, a token could be signed with the public key as a secret
        if not jwt.algorithms or len({word[:2] == "HS" for word in jwt.algorithms}) > 1:
            raise InputError(
                "Expected algorithms of one family in [identity.jwt], got "
                f"{', '.join(jwt.algorithms) or 'none'}. "
                "A public key must not serve as the secret of HS256; list those that your issuer "
                "signs with."
            )
        self.keys = open_key_source(jwt, home)

    def check(self, header: bytes) -> str | WrongCredential:
        """Give the token's subject if signature, dates, audience and issuer are right.

        Raises:
            TokenKeysUnavailable: There are no keys to verify it with.
        """
        import jwt

        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return WrongCredential("malformed")
        token = token.strip()
        try:
            head = jwt.get_unverified_header(token)
        # Odd tokens raise more than the library's own
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return WrongCredential("malformed")
        algorithm, kid = head.get("alg"), head.get("kid")
        if algorithm not in self.jwt.algorithms:
            return WrongCredential("algorithm")
        keys = self.keys.find(kid if isinstance(kid, str) else None)
        fitting = [key for key in keys if algorithm in key.algorithms]
        if not fitting:
            return WrongCredential("algorithm" if keys else "unknown_key")
        claims = self._verify(token, str(algorithm), fitting[:TRIED])
        if isinstance(claims, WrongCredential):
            return claims
        found = claims.get(self.jwt.subject)
        subject = parse_subject(found.encode()) if isinstance(found, str) else None
        return WrongCredential("claims") if subject is None else subject

    def _verify(
        self, token: bytes, algorithm: str, keys: Sequence[TokenKey]
    ) -> dict[str, object] | WrongCredential:
        """Give the claims of a token that one of the keys has signed."""
        import jwt

        for key in keys:
            try:
                claims: dict[str, object] = jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],
                    audience=self.jwt.audience,
                    issuer=self.jwt.issuer,
                    leeway=self.jwt.leeway,
                    options={"require": self.required()},
                )
                return claims
            except jwt.InvalidSignatureError:
                continue
            except jwt.ExpiredSignatureError:
                return WrongCredential("expired")
            except jwt.ImmatureSignatureError:
                return WrongCredential("early")
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
                return WrongCredential("claims")
        return WrongCredential("signature")

    def required(self) -> list[str]:
        """List the claims that a token must have."""
        given = [("aud", self.jwt.audience), ("iss", self.jwt.issuer)]
        # PyJWT checks a claim only where it is there, so that those needed are required
        return ["exp", self.jwt.subject, *(name for name, value in given if value is not None)]
