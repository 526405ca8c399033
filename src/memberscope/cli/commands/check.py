"""`memberscope check`: judge a stored result and exit by its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memberscope.cli.exits import exit_of_verdict
from memberscope.cli.options.choices import FORMATS, POLICIES
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line

if TYPE_CHECKING:
    from memberscope.auditing import Result


@dataclass(frozen=True)
class CheckOptions:
    """The options of `check`."""

    result: Path = add_argument("The folder of an audit, or its result.json.")
    policy: str | None = add_option(
        "Judge by this policy instead of the audit's own.",
        default=None,
        choices=POLICIES,
        value="name|path",
    )
    write: tuple[Path, ...] | None = add_option(
        "Also write this file; its suffix says the format: .sarif, .xml (JUnit), .md, .card.md, "
        ".cdx.json or .pdf.",
        default=None,
        is_repeated=True,
    )
    format: str | None = add_option(
        "The format of the one --write, where its suffix does not say it.",
        default=None,
        choices=FORMATS,
        value="format",
    )
    junit: Path | None = add_option("Also write JUnit XML here.", default=None)
    accept_limited: bool = add_option(
        "Exit 0 on a pass without the reference models that the policy requires.", default=False
    )


@take_options(CheckOptions)
def check_result(options: CheckOptions) -> None:
    """Judge a stored result: exit 0 if it passes its policy, 1 if it fails.

    Exit 3 if it is inconclusive or was not judged, 2 if it cannot be read.
    """
    from memberscope.auditing import load_policy
    from memberscope.reports import (
        read_verified,
        refuse_mistaken_files,
        write_formats,
        write_junit,
    )

    files = options.write or ()
    refuse_mistaken_files(files, options.format)
    policy = load_policy(options.policy) if options.policy else None
    judged, _ = read_verified(options.result, policy)
    accepted = options.accept_limited
    if policy is not None:
        # What is written names the policy that decided
        plan = judged.plan.model_copy(update={"policy": policy})
        judged = judged.model_copy(update={"plan": plan})
    written = _accept_limited_findings(judged) if accepted else judged
    if options.junit:
        write_junit(written, options.junit)
    write_formats(written, files, options.format, document=options.result)
    limited = " (limited)" if judged.limited else ""
    print_line(f"{judged.verdict or 'NO POLICY'}{limited}: {judged.reason}")
    for file in files:
        print_line(f"Written to {file}")
    raise typer.Exit(
        exit_of_verdict(judged.verdict, limited=judged.limited, accept_limited=accepted)
    )


def _accept_limited_findings(result: Result) -> Result:
    """Give the result with its limited findings taken as passed."""
    return result.model_copy(
        update={"findings": [replace(finding, limited=False) for finding in result.findings]}
    )
