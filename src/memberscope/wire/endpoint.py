"""Declare an endpoint: where it is, how it is asked, what it answers, and how fast."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from memberscope.errors import InputError
from memberscope.wire.answers import DeclaredOutputs, Level
from memberscope.wire.credentials import Credential, TransportSettings
from memberscope.wire.protocols import (
    MLflow,
    OpenInference,
    ServingProtocol,
    TemplatedJSON,
    has_texts,
)

Word = Literal["v2", "mlflow", "json"]


@dataclass(frozen=True)
class Endpoint:
    """Declared endpoint; every field is a key of `[target]` in `audit.toml`.

    `classes` are the class names in the order of the server's scores. `timeout` is the seconds one
    request may take in all. `answer` is the output's name (v2) or the path to the answers (mlflow,
    json); `columns` are the names of the features.

    >>> Endpoint("http://localhost:8080", model_name="iris", n_classes=3).serving.address("http://localhost:8080")
    'http://localhost:8080/v2/models/iris/infer'
    """

    url: str
    protocol: Word = "v2"
    model_name: str | None = None
    model_version: str | None = None
    body: str | None = None
    answer: str | None = None
    outputs: Level = "probabilities"
    classes: tuple[str, ...] | None = None
    n_classes: int | None = None
    top_k: int | None = None
    columns: tuple[str, ...] = ()
    batch_size: int = 64
    concurrency: int = 4
    rate: float | None = None
    timeout: float = 60.0
    connect_timeout: float | None = None
    read_timeout: float | None = None
    retries: int = 4
    backoff: float = 0.5
    auth_env: str | None = None
    auth_header: str = "Authorization"
    ca_file: str | None = None
    max_queries: int | None = None
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "Expected a URL such as https://models.example/…, got something else. Begin --url "
                "with https:// or http:// and the name of a host."
            )
        # A password in an address would end up in logs and results
        if parts.username or parts.password:
            raise InputError(
                "Expected a URL without a password, got one with it. Put it into a variable and "
                "name it with --auth-env."
            )
        if self.protocol not in ("v2", "mlflow", "json"):
            raise InputError(
                f"Expected the protocol v2, mlflow or json, got {self.protocol!r}. Choose one "
                "of them with --protocol."
            )
        for name in ("batch_size", "concurrency", "max_bytes"):
            _refuse_below_minimum(name, getattr(self, name), 1)
        _refuse_below_minimum("retries", self.retries, 0)
        _refuse_below_minimum("backoff", self.backoff, 0)
        _refuse_below_minimum("max_queries", self.max_queries, 1)
        for name in ("rate", "timeout", "connect_timeout", "read_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(
                    f"Expected a positive {name}, got {value}. Give --{name.replace('_', '-')} a "
                    "number above 0."
                )
        if self.auth_env is not None:
            # Read once, so that a missing variable is told before anything is asked
            Credential(self.auth_env, self.auth_header).secret()
        if not self.auth_header.replace("-", "").isalnum():
            raise InputError(
                f"Expected the name of a header, got {self.auth_header!r}. Write --auth-header with "
                "letters, digits and hyphens."
            )
        # Building them finds what does not fit
        _ = self.serving, self.declared

    @property
    def serving(self) -> ServingProtocol:
        """Serving protocol.

        Raises:
            InputError: The protocol needs a key that is not given.
        """
        if self.protocol == "v2":
            if not self.model_name:
                raise InputError(
                    "Expected the name of the served model for protocol v2, got none. Give "
                    "--model-name."
                )
            return OpenInference(self.model_name, self.model_version, self.answer)
        if self.protocol == "mlflow":
            return MLflow(self.answer or "predictions")
        if not self.body:
            raise InputError(
                'Expected the body of a request for protocol json, got none. Give --body \'{"instances": "$records"}\'.'
            )
        return TemplatedJSON(self.body, self.answer or "")

    @property
    def declaration(self) -> dict[str, Any]:
        """Description of requests and answers for results.

        It has no host, and no template that holds texts of its own, which may be secrets.

        >>> Endpoint("http://localhost:1/score", model_name="iris", n_classes=3).declaration["path"]
        '/score'
        """
        names = ("protocol", "model_name", "answer", "outputs", "classes", "n_classes", "columns")
        found = {name: getattr(self, name) for name in names} | {"path": urlsplit(self.url).path}
        if self.body is not None and not has_texts(json.loads(self.body)):
            found["body"] = self.body
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value not in (None, ())
        }

    @property
    def declared(self) -> DeclaredOutputs:
        """Declaration of the answers."""
        return DeclaredOutputs(self.outputs, self.classes, self.n_classes, self.top_k)

    @property
    def wire(self) -> TransportSettings:
        """Time limits."""
        # No part may take longer than the whole
        return TransportSettings(
            connect=min(self.connect_timeout or 10.0, self.timeout),
            read=min(self.read_timeout or self.timeout, self.timeout),
            total=self.timeout,
            retries=self.retries,
            backoff=self.backoff,
            rate=self.rate,
            max_bytes=self.max_bytes,
        )

    @property
    def credential(self) -> Credential | None:
        """Credential, if the endpoint wants one."""
        return None if self.auth_env is None else Credential(self.auth_env, self.auth_header)

    @property
    def rows_a_request(self) -> int:
        """Number of records in one request."""
        return 1 if self.serving.one_by_one else self.batch_size

    @property
    def scope(self) -> bytes:
        """Hash of the address and the model's name: what a budget is counted for."""
        return _hash_values([self.url, self.model_name])[:16]

    @property
    def identity(self) -> str:
        """Hash of all that decides an answer as it is read.

        These are address, protocol, declared version, level and classes.
        """
        # Not among them: time limits, rates and credentials, which change no answer
        keys = (
            "url",
            "protocol",
            "model_name",
            "model_version",
            "body",
            "answer",
            "outputs",
            "classes",
            "n_classes",
            "top_k",
            "columns",
        )
        settings = asdict(self)
        return _hash_values([[key, settings[key]] for key in keys]).hex()


def _refuse_below_minimum(name: str, value: float | None, least: int) -> None:
    """Refuse a number below `least`.

    Raises:
        InputError: It is.
    """
    if value is not None and not value >= least:
        raise InputError(
            f"Expected {name} of at least {least}, got {value}. Give --{name.replace('_', '-')} "
            f"{least} or more."
        )


def _hash_values(parts: list[object]) -> bytes:
    """Hash plain values by SHA-256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
