"""`memberscope demo`: audit a model that leaks and one that does not under a shipped policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from memberscope.cli.history.keep import find_history
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_option
from memberscope.cli.options.table import HISTORY


@dataclass(frozen=True)
class DemoOptions:
    """The options of `demo`."""

    out: Path = add_option("The folder to write.", default=Path("demo-out"))
    verbose: bool = add_option(
        "Print the long tables and every note, not the summaries alone.", default=False
    )
    history: Path | None = add_option(
        "The file of past audits that both are appended to.", default=None, shown=HISTORY
    )
    no_history: bool = add_option("Append to no file of past audits.", default=False)


@take_options(DemoOptions)
def run_demo(options: DemoOptions) -> None:
    """Audit a leaky and a well-regularised model of handwritten digits.

    The first fails, the second passes.
    """
    from rich.console import Console

    from memberscope.auditing import Plan, load_policy, make_subject
    from memberscope.cli.run_audit import audit_into_folder
    from memberscope.targets import wrap

    console, out = Console(), options.out
    history = find_history(options.history, off=options.no_history)
    members, non_members = _split_digits()
    expected = {"leaky": "FAIL", "clean": "PASS"}
    verdicts = {}
    for name, model in _train_demo_models(members).items():
        console.rule(f"{name} model")
        plan = Plan(title=f"{name} model of handwritten digits", policy=load_policy("demo"))
        subject = make_subject(wrap(model), members, non_members)
        result = audit_into_folder(
            plan,
            subject,
            out / name,
            overwrite=True,
            verbose=options.verbose,
            history=history,
            kind="demo",
        )
        verdicts[name] = result.verdict
    raise typer.Exit(0 if verdicts == expected else 4)


def _split_digits() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Split scikit-learn's digits at random into as many members as non-members."""
    import numpy as np
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    half = len(y) // 2
    return (x[order[:half]], y[order[:half]]), (x[order[half:]], y[order[half:]])


def _train_demo_models(members: tuple[Any, Any]) -> dict[str, object]:
    """Train a forest that remembers its records, and a strongly regularised linear model."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = members
    return {
        "leaky": RandomForestClassifier(100, random_state=0).fit(x, y),
        "clean": make_pipeline(StandardScaler(), LogisticRegression(C=0.001)).fit(x, y),
    }
