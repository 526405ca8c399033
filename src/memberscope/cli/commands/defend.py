"""`memberscope defend`: train with each defence, attack, and show what each buys and costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from memberscope._files import keep_out_of_git
from memberscope.cli.history.keep import choose_history, keep_audit
from memberscope.cli.options.commands import take_audit_options
from memberscope.cli.options.lookup import choose_out_folder
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import Plan
    from memberscope.auditing.defend import Frontier, SweepOptions
    from memberscope.cli.options.table import Options
    from memberscope.types import Task


@take_audit_options("defend")
def compare_defences(options: Options) -> None:
    """Train with each defence, attack with an adversary who does the same, and compare.

    Exit 0 if some choice meets the policy (or there is none), 1 if none does, 3 if that is open.
    """
    raise typer.Exit(_exit_of_frontier(_run_sweep(options)))


def _run_sweep(options: Options) -> Frontier:
    """Run the sweep that the options describe, write its folder and print the summary.

    Raises:
        InputError: There is no recipe, the options or the data are not usable, or the folder holds
            another sweep.
    """
    from rich.console import Console

    from memberscope.auditing import build_audit_identity, refuse_other_audit, write_audit_identity
    from memberscope.auditing.defend import (
        SweepOptions,
        choose_default_canaries,
        choose_default_defences,
        sweep_defences,
    )
    from memberscope.cli.options.build import build_subject, build_training
    from memberscope.facts import read_target_facts
    from memberscope.reports import print_frontier, show_progress, write_frontier
    from memberscope.signals import Store

    if options.recipe is None:
        raise InputError(
            "Expected a recipe to train defended models, got none. Add --recipe module:function."
        )
    subject = build_subject(options)
    task = read_target_facts(subject.target).task
    plan = _build_sweep_plan(options, task)
    training = build_training(options, subject)
    assert training is not None
    names = options.defences or choose_default_defences(training.recipe, task)
    canaries = options.canaries
    if canaries is None:
        canaries = choose_default_canaries(len(subject.records))
    out, console = choose_out_folder(options, "defend"), Console()
    identity = build_audit_identity(plan, subject, training)
    identity |= {"defences": list(names), "canaries": canaries}
    refuse_other_audit(out, identity, overwrite=bool(options.overwrite), file="frontier.json")
    sweep = _write_each_audit(SweepOptions(names, canaries), out, console, options)
    with keep_out_of_git(out):
        with show_progress(console) as report:
            frontier = sweep_defences(
                plan, subject, training, sweep, store=Store(out / "signals"), progress=report
            )
        write_audit_identity(out, identity)
        write_frontier(frontier, out)
    print_frontier(frontier, console, out)
    return frontier


def _build_sweep_plan(options: Options, task: Task) -> Plan:
    """Build the plan, with fewer queries and attacks than an audit's where none are named."""
    from dataclasses import replace

    from memberscope.auditing.defend import SEARCHED, list_sweep_attacks
    from memberscope.cli.options.build import build_plan

    if options.search_queries is None:
        options = replace(options, search_queries=SEARCHED)
    # Defences are compared by whole audits, whatever time they take
    plan = replace(build_plan(options), effort="normal")
    if options.attacks is None:
        plan = replace(plan, attacks=list_sweep_attacks(plan.threat.access, plan.policy, task))
    return plan


def _write_each_audit(
    sweep: SweepOptions, out: Path, console: Any, options: Options
) -> SweepOptions:
    """Let the sweep write, keep and name each audit, and each fitted defence, once it is there."""
    from dataclasses import replace

    from memberscope.auditing import name_audit_folder
    from memberscope.outputs import name_fitted_file, save_fitted
    from memberscope.reports import write_all

    history, model = choose_history(options), Path(options.model or options.recipe or "").name

    def kept(name: str, result: Any) -> None:
        folder = out / name_audit_folder(name)
        write_all(result, folder)
        keep_audit(result, folder, history, kind="sweep", name=f"{model}: {name}")
        console.print(
            f"{name}: {result.cost.models_trained} models, report in {folder}/", soft_wrap=True
        )

    def fitted(name: str, defence: Any) -> None:
        file = out / name_fitted_file(name)
        save_fitted([defence], file)
        console.print(f"{name}: what it fitted to its own model in {file}", soft_wrap=True)

    return replace(sweep, kept=kept, fitted=fitted)


def _exit_of_frontier(frontier: Frontier) -> int:
    """Give exit code 0 if a choice meets the policy or there is none, 1 if no choice can meet it.

    3 if that is open or something did not run.
    """
    if any(row.meets == "meets" for row in frontier.rows):
        return 0
    missing = any(row.why_not is not None for row in frontier.rows)
    if frontier.policy is None:
        return 3 if missing else 0
    undecided = any(row.meets in ("undecided", "not measured") for row in frontier.rows)
    return 3 if missing or undecided else 1
