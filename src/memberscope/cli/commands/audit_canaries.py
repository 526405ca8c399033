"""`memberscope audit --canaries`: one training run with canaries, and what it proves of epsilon."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from memberscope.cli.epsilon_words import format_bound, report_refutation
from memberscope.cli.history.keep import choose_history, keep_audit
from memberscope.cli.options.lookup import choose_out_folder
from memberscope.cli.options.table import CANARY_KIND
from memberscope.cli.output import print_line
from memberscope.errors import InputError

if TYPE_CHECKING:
    from memberscope.auditing import CanaryDesign, Plan, Subject
    from memberscope.cli.options.table import Options


def audit_canaries(options: Options) -> bool:
    """Train with the canaries that the options ask for, audit them, and print what is proven.

    Tell whether the epsilon that is claimed, or that accounting proves, is refuted.

    Raises:
        InputError: There is no recipe, or the data do not allow the canaries.
    """
    from rich.console import Console

    from memberscope._files import keep_out_of_git, write_bytes
    from memberscope.auditing import run_canary_audit
    from memberscope.cli.options.build import build_plan, build_subject
    from memberscope.reports import print_summary, show_progress, write_all

    _refuse_missing_canaries(options)
    design = design_from_options(options, build_plan(options), build_subject(options))
    print_line(f"Training on {describe_training_data(design)}.")
    out, console = choose_out_folder(options, "audit"), Console()
    with keep_out_of_git(out):
        with show_progress(console) as report:
            outcome = run_canary_audit(
                design, out, overwrite=bool(options.overwrite), progress=report
            )
        write_all(
            outcome.result, out, records=not options.no_records, show_ids=bool(options.show_ids)
        )
    keep_audit(outcome.result, out, choose_history(options), kind="canaries")
    print_summary(outcome.result, console, out, verbose=bool(options.verbose))
    text = json.dumps(outcome.build_document(), indent=1) + "\n"
    write_bytes(out / "canaries.json", text.encode())
    for who, found in outcome.bounds.items():
        for bound in found:
            print_line(f"{who}: {format_bound(bound)}")
    proof = outcome.proof
    if proof is not None:
        print_line(f"Proven by accounting: epsilon {proof.epsilon:.3g} at delta {proof.delta:g}.")
    claim = options.claimed
    if claim is None and proof is not None:
        claim = proof.epsilon
    return claim is not None and report_refutation(outcome.list_bounds(), claim)


def design_from_options(options: Options, plan: Plan, subject: Subject) -> CanaryDesign:
    """Design the audit with canaries that the options ask for.

    Raises:
        InputError: There is no recipe, no canaries, or the data do not allow them.
    """
    from memberscope.auditing import design_canary_audit
    from memberscope.recipes import load_recipe, with_precision

    _refuse_missing_canaries(options)
    n = options.audit_canaries or 0
    recipe = with_precision(load_recipe(options.recipe or ""), options.precision)
    plan = replace(plan, title=options.title or f"{n} canaries")
    return design_canary_audit(plan, subject, recipe, n, options.canary_kind or CANARY_KIND)


def describe_training_data(design: CanaryDesign) -> str:
    """Say what the model is trained on."""
    inside = int(design.inside.sum())
    return f"{len(design.members)} members and {inside} of {len(design.planted)} canaries"


def _refuse_missing_canaries(options: Options) -> None:
    """Refuse options that lack what an audit with canaries needs.

    Raises:
        InputError: There is no number of canaries, or no recipe.
    """
    if options.audit_canaries is None:
        raise InputError(
            "Expected --canaries with --claimed, got none. Add --canaries 1000, or leave out "
            "--claimed."
        )
    if options.recipe is None:
        raise InputError(
            "Expected a recipe to train with canaries, got none. Add --recipe, or plant them: "
            "`memberscope canaries export`."
        )
