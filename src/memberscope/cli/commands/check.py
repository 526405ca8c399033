"""`memberscope check`: judge a stored result and exit by its verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from memberscope.cli.exits import exit_of_baseline, exit_of_verdict, find_strictest_exit
from memberscope.cli.options.choices import POLICIES
from memberscope.cli.options.commands import take_options
from memberscope.cli.options.rows import add_argument, add_option
from memberscope.cli.output import print_line
from memberscope.cli.pipeline.gate_options import choose_baseline, name_audit, read_gate_waivers
from memberscope.cli.pipeline.written_options import add_format_option, add_write_option

if TYPE_CHECKING:
    from memberscope.auditing import AuditArrays, GateOutcome, Policy, Result


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
    write: tuple[Path, ...] | None = add_write_option("Also write this file")
    format: str | None = add_format_option()
    junit: Path | None = add_option("Also write JUnit XML here.", default=None)
    accept_limited: bool = add_option(
        "Exit 0 on a pass without the reference models that the policy requires.", default=False
    )
    baseline: Path | None = add_option(
        "Also exit 1 if the release leaks more than this audit of an earlier one: its folder, or "
        "its result.json.",
        default=None,
    )
    keep_baseline: Path | None = add_option(
        "The folder of a baseline to compare with. This audit is kept there if nothing is, or if "
        "it is shown to leak less, and the exit code is 0.",
        default=None,
    )
    waivers: Path | None = add_option(
        "A waivers.toml: failed claims that an owner accepts, for a reason and until a date.",
        default=None,
    )
    today: str | None = add_option(
        "The day on which waivers must be in force.",
        default=None,
        shown="the day in UTC",
        value="YYYY-MM-DD",
    )


@take_options(CheckOptions)
def check_result(options: CheckOptions) -> None:
    """Judge a stored result: exit 0 if it passes its policy, 1 if it fails.

    Exit 1 also if it leaks more than a baseline, 3 if it is inconclusive, was not judged or cannot
    be compared, 2 if something cannot be read.
    """
    from memberscope.auditing import load_policy, show_gate
    from memberscope.reports import (
        read_verified,
        refuse_mistaken_files,
        write_formats,
        write_junit,
    )

    files = options.write or ()
    refuse_mistaken_files(files, options.format)
    policy = load_policy(options.policy) if options.policy else None
    judged, arrays = read_verified(options.result, policy)
    gate = _judge_gate(options, judged.model_copy(update={"arrays": arrays}), policy)
    accepted = options.accept_limited
    if policy is not None:
        # What is written names the policy that decided
        plan = judged.plan.model_copy(update={"policy": policy})
        judged = judged.model_copy(update={"plan": plan})
    written = show_gate(judged, gate)
    written = _accept_limited_findings(written) if accepted else written
    if options.junit:
        write_junit(written, options.junit)
    write_formats(written, files, options.format, document=options.result)
    _print_gate(judged, gate)
    for file in files:
        print_line(f"Written to {file}")
    code = find_strictest_exit(
        exit_of_verdict(gate.verdict, limited=gate.limited, accept_limited=accepted),
        exit_of_baseline(None if gate.baseline is None else gate.baseline.verdict),
    )
    if options.keep_baseline is not None:
        print_line(_keep_better_baseline(options, arrays, gate, code))
    raise typer.Exit(code)


def _judge_gate(options: CheckOptions, judged: Result, policy: Policy | None) -> GateOutcome:
    """Judge by waivers and the baseline what the policy has judged.

    Raises:
        InputError: The waivers or the baseline cannot be used.
    """
    from memberscope.auditing import conclude_gate, judge_against_baseline
    from memberscope.reports import read_baseline

    waivers = read_gate_waivers(options.waivers, options.today)
    place = choose_baseline(options.result, options.baseline, options.keep_baseline)
    outcome = None
    if place is not None:
        names = name_audit(place), name_audit(options.result)
        outcome = judge_against_baseline(read_baseline(place), judged, names, policy)
    return conclude_gate(judged, waivers, outcome, policy)


def _print_gate(judged: Result, gate: GateOutcome) -> None:
    """Print the verdict, what is waived and what the baseline says, a line each."""
    from memberscope.auditing.verdict import drop_verdict_word

    words = " (limited)" if judged.limited else _count_waived(judged, gate)
    print_line(f"{judged.verdict or 'NO POLICY'}{words}: {drop_verdict_word(judged.reason)}")
    for claim, waiver in gate.waived.items():
        print_line(f"WAIVED: {claim} {waiver.explain()}")
    for note in gate.notes:
        print_line(note)
    if gate.waived:
        limited = " (limited)" if gate.limited else ""
        print_line(f"With what is waived: {gate.verdict or 'NO POLICY'}{limited}")
    if gate.baseline is not None:
        said = gate.baseline.verdict.replace("_", " ")
        print_line(f"Baseline: {said}: {gate.baseline.reason}")
        for note in gate.baseline.comparison.notes if gate.baseline.comparison else ():
            print_line(f"  {note}")


def _count_waived(judged: Result, gate: GateOutcome) -> str:
    """Say in brackets which failed claims are waived; empty if none is."""
    if not gate.waived:
        return ""
    failed = [finding.claim for finding in judged.findings if finding.verdict == "FAIL"]
    n = sum(claim in gate.waived for claim in failed)
    return " (waived)" if n == len(failed) else f" ({n} of {len(failed)} failed claims waived)"


def _keep_better_baseline(
    options: CheckOptions, arrays: AuditArrays, gate: GateOutcome, code: int
) -> str:
    """Keep the audit as the baseline if it may be one, and say in a sentence what was done.

    A release that was not shown to leak less leaves the baseline as it is: many small rises, each
    within its interval, would otherwise add up.
    """
    from memberscope.reports import keep_baseline

    folder = options.keep_baseline
    assert folder is not None
    if code != 0:
        return f"Not kept as the baseline in {folder}, since the check did not pass."
    if gate.baseline is not None and not gate.baseline.leaks_less:
        return f"The baseline in {folder} stays: this audit is not shown to leak less."
    keep_baseline(options.result, arrays, folder)
    return f"Kept as the baseline in {folder}."


def _accept_limited_findings(result: Result) -> Result:
    """Give the result with its limited findings taken as passed."""
    return result.model_copy(
        update={"findings": [replace(finding, limited=False) for finding in result.findings]}
    )
