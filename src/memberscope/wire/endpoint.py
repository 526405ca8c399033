"""Declare an endpoint: where it is, how it is asked, what it answers, and how fast."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from memberscope.errors import InputError
from memberscope.wire.answers import DeclaredOutputs, Level
from memberscope.wire.protocols import (
    MLflow,
    OpenInference,
    ServingProtocol,
    TemplatedJSON,
    has_texts,
)
from memberscope.wire.server_connection import ServerConnection

Word = Literal["v2", "mlflow", "json"]


@dataclass(frozen=True)
class Endpoint(ServerConnection):
    """Declared endpoint; every field is a key of `[target]` in `audit.toml`.

    `classes` are the class names in the order of the server's scores. `timeout` is the seconds one
    request may take in all. `answer` is the output's name (v2) or the path to the answers (mlflow,
    json); `columns` are the names of the features. Of another `task` than classification an answer
    is numbers, of which `n_classes` says how many; of several labels `outputs` says whether they
    are probabilities or logits.

    >>> Endpoint("http://localhost:8080", model_name="iris", n_classes=3).serving.address("http://localhost:8080")
    'http://localhost:8080/v2/models/iris/infer'
    """

    protocol: Word = "v2"
    body: str | None = None
    answer: str | None = None
    outputs: Level = "probabilities"
    classes: tuple[str, ...] | None = None
    n_classes: int | None = None
    top_k: int | None = None
    columns: tuple[str, ...] = ()
    task: Literal["classification", "regression", "multilabel", "forecast"] = "classification"

    decisive: ClassVar[tuple[str, ...]] = (
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol not in ("v2", "mlflow", "json"):
            raise InputError(
                f"Expected the protocol v2, mlflow or json, got {self.protocol!r}. Choose one "
                "of them with --protocol."
            )
        if self.task not in ("classification", "regression", "multilabel", "forecast"):
            raise InputError(
                f"Expected task classification, regression, multilabel or forecast, got "
                f"{self.task!r}. Say with --task what the model does."
            )
        if self.task in ("regression", "forecast") and (self.classes or self.top_k):
            raise InputError(
                f"Expected no classes of a model for {self.task}, got some. Leave out --classes and "
                "--top-k."
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
        if self.task != "classification":
            return DeclaredOutputs("numbers", self.classes, self.n_classes)
        return DeclaredOutputs(self.outputs, self.classes, self.n_classes, self.top_k)

    @property
    def identity(self) -> str:
        """Hash of all that decides an answer as it is read."""
        own = super().identity
        # Ledgers of classifiers keep their keys
        return own if self.task == "classification" else f"{own} {self.task}"

    @property
    def rows_a_request(self) -> int:
        """Number of records in one request."""
        return 1 if self.serving.one_by_one else self.batch_size
