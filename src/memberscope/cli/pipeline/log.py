"""`memberscope log`: send an audit to a registry of experiments and models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line


@dataclass(frozen=True)
class LogOptions:
    """The options of `log`."""

    result: Path = add_argument("The folder of an audit, or its result.json.")
    mlflow: str = add_option(
        "The MLflow server or store, such as http://127.0.0.1:5000 or sqlite:///mlflow.db.",
        value="uri",
    )
    experiment: str = add_option("The experiment for a new run.", default="memberscope")
    run: str | None = add_option(
        "The id of a run to log to, such as the one that trained the model.",
        default=None,
        shown="a new run",
    )
    model: str | None = add_option(
        "A registered model, one version of which gets the verdict as tags.", default=None
    )
    version: str | None = add_option("The version of that model.", default=None)
    records: bool = add_option(
        "Also send records.csv and arrays.safetensors: ids, membership and scores, record by "
        "record.",
        default=False,
    )


@take_options(LogOptions)
def log_audit(options: LogOptions) -> None:
    """Log an audit to MLflow: numbers, report, and tags on the model.

    Records stay where they are unless --records is given.
    """
    from memberscope.errors import InputError
    from memberscope.reports import MlflowPlace, log_to_mlflow, read_result, read_verified

    if (options.model is None) != (options.version is None):
        given = "--model" if options.version is None else "--version"
        raise InputError(
            f"Expected --model and --version together, got {given} alone. Name the version to tag."
        )
    folder = options.result if options.result.is_dir() else options.result.parent
    # Scores that lie beside the result must bear it out before others rely on it
    if (folder / "arrays.safetensors").is_file():
        found, arrays = read_verified(options.result)
        found = found.model_copy(update={"arrays": arrays})
    else:
        found = read_result(options.result)
    place = MlflowPlace(
        options.mlflow, options.experiment, options.run, options.model, options.version
    )
    run = log_to_mlflow(found, folder, place, records=options.records)
    print_line(f"Logged {found.verdict or 'an audit without a policy'} to the run {run}.")
    if options.model is not None:
        print_line(f"Tagged version {options.version} of {options.model}.")
