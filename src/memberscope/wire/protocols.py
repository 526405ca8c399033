"""Encode and decode requests and answers of serving protocols, as pure functions.

`OpenInference` is the Open Inference Protocol, version 2 (KServe, Triton, MLServer, OpenVINO);
`MLflow` is what `mlflow models serve` answers under `/invocations`; `TemplatedJSON` is any request
with a place for the records and a path to the answers. Nothing here knows a network; the targets
and the guard share it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import InputError, TargetError
from memberscope.wire.batch import Batch
from memberscope.wire.json_path import Step, build_document, describe_json, parse_path, pick_value
from memberscope.wire.tensors import Tensor, build_tensor_document, read_tensor_array

# Names in the plural stand for all records of a request; rows are lists in any case
HOLES = ("$records", "$record", "$rows", "$row")


class ServingProtocol(Protocol):
    """Interface of a serving protocol: requests and answers as JSON documents, each way."""

    @property
    def one_by_one(self) -> bool:
        """Whether a request holds one record only."""
        ...

    def address(self, url: str) -> str:
        """Give the address of requests at the server's `url`."""
        ...

    def request(self, batch: Batch) -> Any:
        """Build the document that asks about `batch`."""
        ...

    def records(self, document: Any) -> Batch:
        """Read the records that a request asks about."""
        ...

    def answers(self, document: Any) -> Any:
        """Read each record's answer: a list or an array (n, …)."""
        ...

    def response(self, answers: Any) -> Any:
        """Build the document that holds `answers`."""
        ...


@dataclass(frozen=True)
class OpenInference:
    """Open Inference Protocol: `POST /v2/models/{model}[/versions/{version}]/infer`.

    `answer` is the output tensor wanted, such as `predict_proba`.

    `tensors` are the inputs that the server's metadata names. Without them, records are one tensor
    `input-0`, or one a column.

    >>> served = OpenInference("iris", answer="predict_proba")
    >>> served.address("http://localhost:8080")
    'http://localhost:8080/v2/models/iris/infer'
    >>> served.request(Batch(np.eye(2)))["inputs"]
    [{'name': 'input-0', 'shape': [2, 2], 'datatype': 'FP64', 'data': [1.0, 0.0, 0.0, 1.0]}]
    """

    model: str
    version: str | None = None
    answer: str | None = None
    tensors: tuple[Tensor, ...] = ()
    one_by_one: bool = False

    def home(self, url: str) -> str:
        """Give the model's own address, which answers with its metadata."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"{url.rstrip('/')}/v2/models/{self.model}{version}"

    def address(self, url: str) -> str:
        """Give the address of requests."""
        return f"{self.home(url)}/infer"

    def request(self, batch: Batch) -> Any:
        """Build the document that asks about `batch`.

        Raises:
            InputError: The records do not fit the tensors that the server wants.
        """
        found: dict[str, Any] = {
            "inputs": [build_tensor_document(*part) for part in self._parts(batch)]
        }
        # MLServer makes a data frame of the tensors where the content type is pd
        if batch.columns is not None and len(self.tensors) != 1:
            found["parameters"] = {"content_type": "pd"}
        return found | ({"outputs": [{"name": self.answer}]} if self.answer else {})

    def _parts(self, batch: Batch) -> list[tuple[str, NDArray[Any], Tensor | None]]:
        n = len(batch)
        # A server that wants one tensor gets all columns side by side, in their order
        if len(self.tensors) == 1:
            whole = (
                batch.array
                if batch.columns is None
                else np.column_stack(list(batch.columns.values()))
            )
            return [(self.tensors[0].name, np.asarray(whole), self.tensors[0])]
        if batch.columns is None:
            if self.tensors:
                names = ", ".join(tensor.name for tensor in self.tensors)
                raise InputError(
                    f"Expected a column for each of the inputs {names}, got one array. Name them "
                    "with --columns."
                )
            # The name that MLServer gives the first input
            return [("input-0", np.asarray(batch.array), None)]
        wanted = {tensor.name: tensor for tensor in self.tensors}
        missing = [name for name in wanted if name not in batch.columns]
        if missing:
            raise InputError(
                f"Expected the columns {', '.join(wanted)}, got none called {missing[0]!r}. Check "
                "the records."
            )
        return [
            (name, batch.columns[name].reshape(n, 1), wanted.get(name))
            for name in wanted or batch.columns
        ]

    def records(self, document: Any) -> Batch:
        """Read the records that a request asks about."""
        tensors = {
            entry["name"]: read_tensor_array(entry) for entry in read_list(document, "inputs")
        }
        # A data frame of one column is still a column with a name
        if len(tensors) == 1 and (document.get("parameters") or {}).get("content_type") != "pd":
            return Batch(next(iter(tensors.values())))
        return Batch(
            columns={name: values.reshape(len(values)) for name, values in tensors.items()}
        )

    def answers(self, document: Any) -> Any:
        """Read the wanted output tensor (n, …), or the only one.

        Raises:
            TargetError: There is no such tensor, or it does not hold what its shape says.
        """
        outputs = {
            str(entry.get("name")): entry
            for entry in read_list(document, "outputs")
            if isinstance(entry, dict)
        }
        # Of several outputs none is guessed
        name = self.answer or (next(iter(outputs)) if len(outputs) == 1 else None)
        if name not in outputs:
            got = ", ".join(outputs) or "none"
            raise TargetError(
                f"Expected the output {name or 'to be named'}, got {got}. Name one of them with "
                "--answer."
            )
        return read_tensor_array(outputs[name])

    def response(self, answers: Any) -> Any:
        """Build the document that holds `answers` (n, …)."""
        return {
            "model_name": self.model,
            "outputs": [
                build_tensor_document(self.answer or "output-0", np.asarray(answers), None)
            ],
        }


@dataclass(frozen=True)
class MLflow:
    """MLflow's `POST /invocations`: named columns as `dataframe_split`, arrays as `inputs`.

    `answer` is the path to the answers.

    >>> MLflow().address("http://localhost:5000"), MLflow().request(Batch(np.eye(2)))
    ('http://localhost:5000/invocations', {'inputs': [[1.0, 0.0], [0.0, 1.0]]})
    """

    answer: str = "predictions"
    one_by_one: bool = False

    def address(self, url: str) -> str:
        """Give the address of requests: `/invocations`, unless the URL has a path of its own."""
        return url if _has_path(url) else f"{url.rstrip('/')}/invocations"

    def request(self, batch: Batch) -> Any:
        """Build the document that asks about `batch`."""
        if batch.columns is None:
            return {"inputs": batch.rows()}
        return {"dataframe_split": {"columns": list(batch.columns), "data": batch.rows()}}

    def records(self, document: Any) -> Batch:
        """Read the records that a request asks about.

        Raises:
            TargetError: It has none of MLflow's forms.
        """
        # Named columns keep their order, as the server's model may read them by place
        split = document.get("dataframe_split") if isinstance(document, dict) else None
        if split is not None:
            return _build_column_batch(
                [dict(zip(split["columns"], row, strict=True)) for row in split["data"]],
                split["columns"],
            )
        # MLflow reads all of these forms, though requests are written in two of them
        for key in ("dataframe_records", "instances", "inputs"):
            if isinstance(document, dict) and key in document:
                return _build_row_batch(document[key])
        raise TargetError(
            f"Expected dataframe_split or inputs in a request, got {describe_json(document)}. Send "
            "one of them."
        )

    def answers(self, document: Any) -> Any:
        """Read what is at the path `answer`."""
        return pick_value(document, parse_path(self.answer))

    def response(self, answers: Any) -> Any:
        """Build the document that holds `answers`."""
        return build_document(parse_path(self.answer), answers)


@dataclass(frozen=True)
class TemplatedJSON:
    """Any JSON request: `body` holds "$records" (or "$record", for one record a request).

    `answer` is the path to the answers.

    Records with named columns are objects there, other ones lists; "$rows" and "$row" give lists in
    any case.

    >>> served = TemplatedJSON('{"instances": "$records"}', "predictions[*].probs")
    >>> served.request(Batch(np.eye(2)))
    {'instances': [[1.0, 0.0], [0.0, 1.0]]}
    >>> served.answers({"predictions": [{"probs": [0.2, 0.8]}, {"probs": [0.5, 0.5]}]})
    [[0.2, 0.8], [0.5, 0.5]]
    """

    body: str
    answer: str = ""

    def __post_init__(self) -> None:
        self._place()
        parse_path(self.answer)

    @property
    def one_by_one(self) -> bool:
        """Whether a request holds one record only."""
        return self._place()[1] in ("$record", "$row")

    def _place(self) -> tuple[tuple[Step, ...], str]:
        try:
            found = _find_placeholders(json.loads(self.body))
        except json.JSONDecodeError as error:
            raise InputError(
                f'Expected JSON such as {{"instances": "$records"}} as --body, got: {error}. Write '
                "--body as JSON."
            ) from error
        if len(found) != 1:
            raise InputError(
                f'Expected one place for the records in --body, got {len(found)}. Write "$records" or "$record" where they go.'
            )
        return found[0]

    def address(self, url: str) -> str:
        """Give the address of requests."""
        return url

    def request(self, batch: Batch) -> Any:
        """Build the document that asks about `batch`."""
        steps, hole = self._place()
        values = batch.objects() if hole.startswith("$record") else batch.rows()
        # Parsed anew for each request, as filling changes the document
        return fill_template(json.loads(self.body), steps, values[0] if self.one_by_one else values)

    def records(self, document: Any) -> Batch:
        """Read the records that a request asks about."""
        found = pick_value(document, self._place()[0])
        return _build_row_batch([found] if self.one_by_one else found)

    def answers(self, document: Any) -> Any:
        """Read each record's answer at the path `answer`."""
        found = pick_value(document, parse_path(self.answer))
        return [found] if self.one_by_one else found

    def response(self, answers: Any) -> Any:
        """Build the document that holds `answers`."""
        return build_document(parse_path(self.answer), answers[0] if self.one_by_one else answers)


def _find_placeholders(document: Any) -> list[tuple[tuple[Step, ...], str]]:
    """Find every place for records in a template, by its path."""
    if isinstance(document, str):
        return [((), document)] if document in HOLES else []
    entries: Any = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [
        ((step, *rest), hole) for step, entry in entries for rest, hole in _find_placeholders(entry)
    ]


def has_texts(document: Any) -> bool:
    """Tell whether a template holds texts of its own, which may be secrets.

    >>> has_texts({"rows": "$records", "raw": True}), has_texts({"rows": "$records", "token": "s3cret"})
    (False, True)
    """
    if isinstance(document, str):
        return document not in HOLES
    entries = document.values() if isinstance(document, dict) else document
    return isinstance(document, dict | list) and any(map(has_texts, entries))


def fill_template(document: Any, steps: tuple[Step, ...], value: Any) -> Any:
    """Fill the template with `value` at the end of the path."""
    if not steps:
        return value
    document[steps[0]] = fill_template(document[steps[0]], steps[1:], value)
    return document


def read_list(document: Any, key: str) -> list[Any]:
    """Read the list under `key`.

    Raises:
        TargetError: There is none.
    """
    if not (isinstance(document, dict) and isinstance(document.get(key), list)):
        raise TargetError(
            f"Expected a list of {key} from the server, got {describe_json(document)}. Check "
            "--protocol and --url."
        )
    return document[key]  # type: ignore[no-any-return]


def _has_path(url: str) -> bool:
    """Tell whether a URL names more than a server."""
    from urllib.parse import urlsplit

    return urlsplit(url).path not in ("", "/")


def _build_row_batch(rows: Any) -> Batch:
    """Build a batch from records given as lists or as objects."""
    if rows and isinstance(rows[0], dict):
        return _build_column_batch(rows, list(rows[0]))
    return Batch(np.array(rows))


def _build_column_batch(rows: list[dict[str, Any]], names: list[str]) -> Batch:
    """Build a batch of named columns from one object a record."""
    return Batch(columns={str(name): _build_column([row[name] for row in rows]) for name in names})


def _build_column(values: list[Any]) -> NDArray[Any]:
    """Build one column as numbers, None being NaN, or as words."""
    # With a word among them all stay objects, so that numbers are not turned into text
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    return np.array(
        [np.nan if value is None else value for value in values] if None in values else values
    )
