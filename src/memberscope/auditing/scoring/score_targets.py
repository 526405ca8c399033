"""Attack the further target models like the audited one, and say what they have in common.

A mean, and a spread between them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from memberscope.auditing.collect.collect import Collected, Progress
from memberscope.auditing.collect.measured_signals import Measurements
from memberscope.auditing.documents.access_levels import build_evidence
from memberscope.auditing.documents.diagnostics import TargetSpread, TargetsSummary
from memberscope.auditing.documents.plan import EstimateSettings, Plan
from memberscope.auditing.documents.result import AuditArrays, NotRun
from memberscope.auditing.scoring.crossfit import flatten_seed
from memberscope.auditing.scoring.score import score_attacks
from memberscope.signals import MeasuredSignal, is_measured, reduce_outputs
from memberscope.statistics import DESCRIPTIVE
from memberscope.types import Estimate, Evidence

OWN = "target"  # what estimates of the audited model itself are about
STREAM = 1000  # set apart from the numbers of folds, from which streams are derived too
METHOD = (
    "mean and standard deviation over target models of the recipe, without the audited one; a "
    "spread between models, "
    f"not a confidence interval; {DESCRIPTIVE}"
)


def _substitute_target_model(got: Collected, k: int) -> Collected:
    """Put target model `k` where the audited model was in what was collected.

    Membership, answers and random streams are its own.
    """
    assert got.procedure is not None
    fleet, labels = got.procedure.fleet, got.subject.records.y
    assert fleet.outputs is not None
    outputs, signal = np.asarray(fleet.outputs[k]), got.observed.signal
    evidence = {
        level: build_evidence(level, signal, outputs, labels, before.features)
        for level, before in got.evidence.items()
    }
    references = got.references
    # The reference models stay; only the target's side of each comparison changes
    if references is not None:
        found: dict[Any, Evidence] = {}
        for wanted, before in references.evidence.items():
            # Whole answers are kept of every target, other signals as they were observed
            whole = wanted.spec.name == "outputs"
            values = (
                reduce_outputs(wanted, signal, outputs, labels)[1][:, None, :]
                if whole
                else fleet.observed[wanted][k]
            )
            others = before.population
            if others is not None:
                others = replace(others, target=np.asarray(fleet.population[wanted][k]))
            found[wanted] = replace(before, target=np.asarray(values), population=others)
        references = replace(references, evidence=found, observed=outputs)
    return replace(
        got,
        measured=_select_target_measurements(got, k),
        subject=replace(got.subject, member=fleet.inside[k]),
        observed=replace(got.observed, outputs=outputs),
        evidence=evidence,
        references=references,
        tokens=None,
        streams={
            # Streams of its own, lest all targets share their random draws with the audited model
            name: np.random.SeedSequence([*flatten_seed(seed), STREAM + k])
            for name, seed in got.streams.items()
        },
    )


def _select_target_measurements(got: Collected, k: int) -> Measurements:
    """Select what was measured of target model `k`.

    The numbers of queries are those that the audited model's search took.
    """
    assert got.procedure is not None
    found, refused = {}, dict(got.measured.refused)
    for wanted, values in got.procedure.fleet.observed.items():
        before = got.measured.found.get(wanted.spec)
        # A measurement that failed on this model leaves NaN
        if before is not None and is_measured(wanted.spec) and np.isnan(values[k]).any():
            refused[wanted.spec] = (
                f"Expected {wanted.spec.name} measured of this model as of the target, got none."
            )
        elif before is not None and is_measured(wanted.spec):
            found[wanted.spec] = MeasuredSignal(np.asarray(values[k]), before.queries[:, -1:])
    return Measurements(found, refused)


def score_targets(
    plan: Plan, got: Collected, settings: EstimateSettings, not_run: list[NotRun], report: Progress
) -> tuple[dict[str, AuditArrays], list[NotRun]]:
    """Score every attack on each target model by its name.

    What did not run on one though it ran on the target is listed.

    Groups and single records are the audited model's affair: they are left out here.
    """
    if got.procedure is None:
        why = f"No further target model could be trained. {got.broken_targets}"
        return {}, [NotRun("targets", plan.threat.access.word, why)] if got.broken_targets else []
    # What does not run on the audited model either was said already
    names, known = got.procedure.named(), {(entry.attack, entry.access) for entry in not_run}
    found, missing = {}, []
    for done, (name, k) in enumerate(names):
        arrays, without = score_attacks(
            plan, _substitute_target_model(got, k), settings, lambda stage, done, total: None
        )
        found[name] = replace(arrays, groups={}, group_values={}, posterior={})
        missing += [
            replace(entry, why=f"On {name}: {entry.why}")
            for entry in without
            if (entry.attack, entry.access) not in known
        ]
        report("targets", done + 1, len(names))
    return found, missing


def summarise_spread(estimates: list[Estimate], fprs: tuple[float, ...]) -> list[TargetSpread]:
    """Summarise each attack's AUC and TPR at `fprs` over the further targets.

    Mean and standard deviation, at best thresholds. `own` is the audited model's value, which is
    not one of those averaged; `spread` is None for a single target.
    """
    wanted = [
        entry
        for entry in estimates
        if entry.group is None
        and (
            entry.metric == "auc"
            or (entry.metric == "tpr" and entry.threshold == "best" and entry.fpr in fprs)
        )
    ]
    rows: dict[tuple[Any, ...], dict[str, float]] = {}
    for entry in wanted:
        place = (entry.attack, entry.access, entry.restriction, entry.metric, entry.fpr)
        rows.setdefault(place, {})[entry.target] = entry.value
    found = []
    for (attack, access, limits, metric, fpr), values in rows.items():
        others = [value for target, value in values.items() if target != OWN]
        # Some attacks ran on the audited model only
        if not others:
            continue
        found.append(
            TargetSpread(
                attack,
                access,
                limits,
                metric,
                fpr,
                n_targets=len(others),
                mean=float(np.mean(others)),
                spread=float(np.std(others, ddof=1)) if len(others) > 1 else None,
                lowest=min(others),
                highest=max(others),
                own=values.get(OWN),
            )
        )
    return found


def summarise_targets(
    plan: Plan, got: Collected, estimates: list[Estimate], settings: EstimateSettings
) -> TargetsSummary | None:
    """Summarise how many target models there are, how well they learned, and what they share.

    None without any.
    """
    if got.procedure is None:
        return None
    fleet, good = got.procedure.fleet, got.procedure.good
    return TargetsSummary(
        trained=len(good),
        failed=got.procedure.n_failed,
        records_per_model=int(fleet.inside[0].sum()),
        train_accuracy=[float(value) for value in fleet.train_accuracy[good]],
        held_out_accuracy=[float(value) for value in fleet.held_out_accuracy[good]],
        method=METHOD,
        rows=summarise_spread(estimates, plan.claim_fprs() or settings.fprs),
    )
