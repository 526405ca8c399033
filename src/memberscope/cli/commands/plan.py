"""`memberscope plan`: a dry run; what would run, what it would cost, and what it could see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memberscope.cli.options.commands import take_audit_options
from memberscope.cli.options.endpoint import describe_planned_requests
from memberscope.cli.options.lookup import choose_out_folder
from memberscope.cli.output import print_line

if TYPE_CHECKING:
    from memberscope.auditing import NotRun, Plan, Subject, Training
    from memberscope.auditing.forecast import Seconds
    from memberscope.cli.options.table import Options


@take_audit_options("plan")
def preview_audit(options: Options) -> None:
    """Show what `audit` with the same options would do, and train nothing.

    Which attacks will run, which will not and why; models, queries, minutes and bytes; the smallest
    FPR that the records resolve, and what the audit could detect.
    """
    from memberscope.cli.commands.audit_canaries import describe_training_data, design_from_options
    from memberscope.cli.run_audit import build_audit, find_missing_declaration

    plan, subject, training = build_audit(options)
    out = choose_out_folder(options, "plan")
    missing = find_missing_declaration(plan, subject)
    lines = [] if missing is None else [f"note     {missing}"]
    if options.audit_canaries is not None or options.claimed is not None:
        design = design_from_options(options, plan, subject)
        lines.append(f"canaries one model to train, on {describe_training_data(design)}")
        # The model to audit is not trained yet: the one that is named stands in for it.
        plan, subject, training = design.plan, design.build_subject(subject.target), None
    elif not options.overwrite:
        lines += _describe_other_audit(plan, subject, training, out)
    measure, left = bool(options.measure), out / "signals"
    price = options.token_price
    lines += _list_preview_lines(plan, subject, training, measure=measure, left=left, price=price)
    for line in lines:
        print_line(line)


def _describe_other_audit(
    plan: Plan, subject: Subject, training: Training | None, out: Path
) -> list[str]:
    """Say that the output folder holds the result of another audit, if it does."""
    from memberscope.auditing import build_audit_identity, find_other_audit

    if not (out / "result.json").is_file():
        return []
    changed = find_other_audit(out, build_audit_identity(plan, subject, training))
    if changed is None:
        return []
    return [
        f"folder   {out} holds a result with another {changed}: the audit will need another --out, "
        "or --overwrite"
    ]


def _list_preview_lines(
    plan: Plan,
    subject: Subject,
    training: Training | None = None,
    *,
    measure: bool = False,
    left: Path | None = None,
    price: float | None = None,
) -> list[str]:
    """List the lines of the dry run.

    A local model is timed on a few dozen of its own records; models are trained only to `measure`.
    `left` is the folder where an earlier run may have left answers and models, `price` that of a
    token of a language model.

    Raises:
        InputError: The records do not resolve a rate that was asked for.
    """
    from dataclasses import replace

    from memberscope.auditing.forecast import (
        describe_missing_references,
        describe_reference_costs,
        forecast_audit,
        measure_training_seconds,
        time_target,
    )
    from memberscope.signals import Store

    store = Store(left) if left is not None else None
    found = forecast_audit(plan, subject, training, store)
    timings = time_target(subject)
    if measure and training is not None and found.standing.to_train:
        timings = replace(
            timings, model=measure_training_seconds(plan, subject, training, store=store)
        )
    found = forecast_audit(plan, subject, training, store, timings, price)
    lines = [f"note     {sentence}" for sentence in (*subject.notes, *found.notes)]
    if found.fine_tunes and training is None:
        lines.insert(0, f"note     {describe_missing_references(found.fine_tunes)}")
    lines += [f"runs     {attack} at {access}" for attack, access in found.runs]
    lines += [f"not run  {names}: {why}" for names, why in _group_reasons(found.not_run)]
    further = f" and {found.targets} further targets" if found.targets else ""
    trained = "" if timings.model is None else f"; {timings.model:.1f} s a model on one core"
    lines += [
        f"records  {found.n_members} members, {found.n_non_members} "
        f"non-members{_describe_units(subject)}",
        f"models   {found.models} references{further}: {found.standing.stored} stored, "
        f"{found.standing.kept} to ask again from "
        f"kept weights, {found.standing.to_train} to train{trained}",
        f"queries  {found.queries} at most (one a record and view, up to 32 asked twice, and "
        f"{_name_further_queries(subject)})",
        *(
            [f"queries  {found.model_queries} at most of the other models"]
            if found.model_queries
            else []
        ),
        *describe_planned_requests(subject.target, found.queries),
        f"time     about {found.minutes:.1f} minutes here: "
        f"{_format_seconds_by_part(found.seconds)}",
        *(f"time     {sentence}" for sentence in found.unknown),
        *(
            f"models   {sentence}"
            for sentence in describe_reference_costs(found.fine_tunes if training else [])
        ),
        f"disk     about {found.megabytes:.1f} MB, and {found.model_megabytes:.1f} MB of "
        "reference signals",
        f"rates    the lowest false-positive rate that so many non-members resolve is "
        f"{100 * found.smallest_fpr:.4g}%",
    ]
    for fpr, limit, tpr in found.detectable:
        at = f"power    at {100 * fpr:g}% false positives"
        lines.append(
            f"{at}: with a limit of {100 * limit:.4g}%, too few records to fail any model with a "
            "probability of 80%"
            if tpr is None
            else f"{at}: it fails a limit of {100 * limit:.4g}% with a probability of 80% if "
            f"{100 * tpr:.3g}% or more of the members can be found"
        )
    return lines


def _format_seconds_by_part(seconds: Seconds) -> str:
    """Write the seconds of one core by part; what is not known is left out."""
    parts = {
        "asking the target": seconds.asking,
        "training": seconds.training,
        "asking other models": seconds.observing,
        "attacks": seconds.scoring,
        "intervals": seconds.estimating,
        "controls": seconds.controls,
    }
    return (
        ", ".join(f"{name} {value:.0f} s" for name, value in parts.items() if value)
        + " (of one core)"
    )


def _describe_units(subject: Subject) -> str:
    """Say how many people or documents the records belong to, as the end of a sentence."""
    import numpy as np

    unit = subject.records.unit
    if unit is None:
        return ""
    return f" of {len(np.unique(unit[subject.member]))} and {len(np.unique(unit[~subject.member]))} units"


def _name_further_queries(subject: Subject) -> str:
    """Name what is asked besides each record itself."""
    from memberscope.facts import read_target_facts

    task = read_target_facts(subject.target).task
    return "changed copies" if task == "text" else "label-only searches"


def _group_reasons(not_run: Sequence[NotRun]) -> list[tuple[str, str]]:
    """Group attacks that do not run by the reason: their names, and why."""
    found: dict[str, list[str]] = {}
    for entry in not_run:
        found.setdefault(entry.why, []).append(entry.attack)
    return [(", ".join(dict.fromkeys(names)), why) for why, names in found.items()]
