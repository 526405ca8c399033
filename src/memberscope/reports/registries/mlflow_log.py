"""Log an audit to MLflow: a run with metrics and files, and tags on a version of a model."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memberscope._text import quote_value
from memberscope.auditing import Result
from memberscope.errors import InputError, MemberscopeError
from memberscope.reports.files.result_json import write_result
from memberscope.reports.page.report_html import write_report
from memberscope.reports.registries.logged_values import (
    list_logged_metrics,
    list_logged_params,
    list_logged_tags,
)

FOLDER = "memberscope"  # of the files in the run
BY_RECORD = ("records.csv", "arrays.safetensors")
MOST_METRICS = 1000  # that MLflow takes at once
# An audit tells nobody but the server it is sent to, and a server that is down is told soon
SETTINGS = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
PASSWORD = re.compile(r"//[^/\s@]*@")


@dataclass(frozen=True)
class MlflowPlace:
    """Where in MLflow an audit is logged.

    `uri` is a tracking server or store; `run` the id of a run that is there, None for a new one in
    `experiment`. `model` and `version` name the version of a registered model to tag.
    """

    uri: str
    experiment: str = "memberscope"
    run: str | None = None
    model: str | None = None
    version: str | None = None


def log_to_mlflow(
    result: Result, folder: Path, place: MlflowPlace, *, records: bool = False
) -> str:
    """Log a result to MLflow, and give the id of the run.

    The report is written anew without ids, whatever the one in `folder` shows. With `records`, the
    files of `folder` that have a line a record are logged as well.

    Raises:
        InputError: MLflow is not installed, there is no such run or version, or `folder` lacks the
            files of records.
        MemberscopeError: MLflow cannot be reached, or refused the audit.
    """
    client = _open_client(place.uri)
    missing = [name for name in BY_RECORD if records and not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"Expected {missing[0]} in {str(folder)!r} for --records, got none. Audit again "
            "without --no-records, or leave --records out."
        )
    with _explain_refusals(place):
        # Before anything is written, so that a mistyped name leaves no run behind
        if place.model is not None:
            client.get_model_version(place.model, place.version)
        run, is_new = _find_run(client, result, place)
        try:
            _fill_run(client, run, result)
            _upload_files(client, run, result, [folder / name for name in BY_RECORD if records])
            if place.model is not None:
                _tag_version(client, place, run, result)
        except BaseException:
            if is_new:
                client.set_terminated(run, "FAILED")
            raise
        if is_new:
            client.set_terminated(run)
    return run


def _open_client(uri: str) -> Any:
    """Open the client of a store.

    Raises:
        InputError: MLflow is not installed, or it knows no such store.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise InputError(
            "Expected MLflow to log to it, got none that can be imported. Install it: pip install "
            '"memberscope[mlflow]".'
        ) from error
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except ImportError as error:
        # The small package lacks what a database needs
        raise InputError(
            f"Expected all of MLflow for the store {quote_value(uri)}, got: {error}. Install it: pip "
            "install mlflow."
        ) from error
    except (MlflowException, ValueError) as error:
        raise InputError(
            f"Expected an address of MLflow, such as http://127.0.0.1:5000 or sqlite:///mlflow.db, "
            f"got {quote_value(uri)}. Correct --mlflow."
        ) from error


@contextmanager
def _explain_refusals(place: MlflowPlace) -> Iterator[None]:
    """Turn errors of MLflow into a sentence.

    Raises:
        InputError: Something that was named is not there, or has other values already.
        MemberscopeError: Anything else that MLflow says.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        # An address may hold a password, which MLflow repeats
        said = PASSWORD.sub("//…@", " ".join(str(error).split()))
        where = f"MLflow at {quote_value(place.uri)}"
        if error.error_code in ABSENT:
            raise InputError(
                f"Expected what --run, --experiment, --model and --version name in {where}, got: "
                f"{said[:300]} Correct the name, or log to a new run."
            ) from error
        raise MemberscopeError(
            f"Expected {where} to take the audit, got: {said[:300]} See that it runs and log again."
        ) from error


def _find_run(client: Any, result: Result, place: MlflowPlace) -> tuple[str, bool]:
    """Find the run to log to, or create one; tell which."""
    if place.run is not None:
        return str(client.get_run(place.run).info.run_id), False
    found = client.get_experiment_by_name(place.experiment)
    at = client.create_experiment(place.experiment) if found is None else found.experiment_id
    return str(client.create_run(at, run_name=result.title).info.run_id), True


def _fill_run(client: Any, run: str, result: Result) -> None:
    """Log metrics, parameters and tags, all of which readers compare runs by."""
    from mlflow.entities import Metric, Param, RunTag

    # The run's own time, so that nothing here reads the clock
    at = client.get_run(run).info.start_time
    metrics = [Metric(name, value, at, 0) for name, value in list_logged_metrics(result).items()]
    params = [Param(name, value) for name, value in list_logged_params(result).items()]
    tags = [RunTag(name, value) for name, value in list_logged_tags(result).items()]
    client.log_batch(run, params=params, tags=tags)
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])


def _upload_files(client: Any, run: str, result: Result, more: list[Path]) -> None:
    """Upload the report and the result, and the files of `more`."""
    with tempfile.TemporaryDirectory() as folder:
        page, document = Path(folder) / "report.html", Path(folder) / "result.json"
        write_report(result, page, show_ids=False)
        write_result(result, document)
        for file in (page, document, *more):
            client.log_artifact(run, str(file), FOLDER)


def _tag_version(client: Any, place: MlflowPlace, run: str, result: Result) -> None:
    """Tag a version of a registered model with the verdict and the run that has the audit."""
    tags: Mapping[str, str] = {**list_logged_tags(result), "membership_audit.run_id": run}
    for name, value in tags.items():
        client.set_model_version_tag(place.model, place.version, name, value)
