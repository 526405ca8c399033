"""Settings of a serving guard, checked before anything listens."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memberscope.errors import InputError
from memberscope.guard.asgi.middleware import PolicyMiddleware
from memberscope.guard.forwarding.proxy import Proxy
from memberscope.guard.policy.config import GuardPolicy, read_policy
from memberscope.guard.policy.measured_level import require_measured
from memberscope.guard.server.admin_token import read_required_token


@dataclass(frozen=True, kw_only=True)
class Run:
    """Settings of a serving guard; a port of 0 is any free one.

    `upstream` is one address or those of several replicas, and empty where the policies name them.
    `models` are the policies of further models. For `drain` seconds after the signal that ends the
    guard it says that it is not ready, and still serves.
    """

    policy: Path
    models: tuple[Path, ...] = ()
    upstream: str | tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 9464
    workers: int = 1
    grace: float = 30.0
    drain: float = 0.0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    upstream_ca: Path | None = None
    log_level: str = "info"
    allow_looser: bool = False

    def checked(self) -> list[GuardPolicy]:
        """Check that everything fits together, and read the policies, that of the first model first.

        Raises:
            InputError: It does not; the sentence says what.
        """
        policies = [read_policy(path) for path in (self.policy, *self.models)]
        require_separate_models(policies)
        self.check_options(policies)
        for policy in policies:
            # Building them once finds what is not usable before any worker starts
            Proxy(self.upstream, policy)
            if not self.allow_looser:
                require_measured(policy)
            # Without `measured`, as each worker logs a looser policy
            PolicyMiddleware(None, policy=policy.model_copy(update={"measured": None}))
        read_required_token(policies[0], self.admin_host)
        return policies

    def check_options(self, policies: Sequence[GuardPolicy]) -> None:
        """Check that the options fit together, and that certificates can be read.

        Raises:
            InputError: They do not, or cannot.
        """
        alone = any(policy.state.redis is None for policy in policies)
        if self.workers < 1 or (self.workers > 1 and alone):
            raise InputError(
                f"Expected [state] redis for {self.workers} workers, got none: each would keep "
                "budgets by itself. Set it, or use --workers 1."
            )
        if (self.tls_cert is None) != (self.tls_key is None) or (
            self.client_ca is not None and self.tls_cert is None
        ):
            raise InputError(
                "Expected --tls-cert and --tls-key together, --client-ca only beside them, got one "
                "alone. Give both."
            )
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise InputError(
                f"Expected a log level of debug, info, warning or error, got {self.log_level!r}. "
                "Choose one of them with --log-level."
            )
        for file, certificate_of in (
            (self.tls_cert, self._own),
            (self.client_ca, _read_authorities),
            (self.upstream_ca, _read_authorities),
        ):
            if file is not None:
                _check_certificates(file, certificate_of)

    def _own(self, file: Path) -> None:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, self.tls_key)


def _read_authorities(file: Path) -> None:
    """Read the certificates of authorities."""
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)


def _check_certificates(file: Path, read: Callable[[Path], None]) -> None:
    """Read certificates once, before anybody connects.

    Raises:
        InputError: They cannot be read, or do not fit their key.
    """
    try:
        read(file)
    except OSError as error:  # as an error of TLS is, too
        why = error.strerror or type(error).__name__
        raise InputError(
            f"Expected certificates (PEM) in {str(file)!r}, with their key, got none: {why}. Check "
            "the file."
        ) from None


def require_separate_models(policies: Sequence[GuardPolicy]) -> None:
    """Refuse policies of several models that requests or budgets could not be told apart by.

    Raises:
        InputError: Two have the same prefix, or keep budgets in one place.
    """
    prefixes = [policy.serving.prefix for policy in policies]
    if len(set(prefixes)) < len(prefixes):
        raise InputError(
            "Expected a prefix of its own in [serving] of each model's policy, got one twice. "
            'Write prefix = "/churn".'
        )
    places = [
        (policy.state.redis, policy.state.prefix) for policy in policies if policy.state.redis
    ]
    if len(set(places)) < len(places):
        raise InputError(
            "Expected a prefix of its own in [state] of each model's policy, got one twice in the "
            "same Redis: models would share budgets. Name another."
        )
    folders = [
        policy.path(policy.state.folder).resolve()
        for policy in policies
        if policy.state.folder is not None
    ]
    if len(set(folders)) < len(folders):
        raise InputError(
            "Expected a folder of its own in [state] of each model's policy, got one twice: models "
            "would share budgets. Name another."
        )
