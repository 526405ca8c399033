"""Hold the controls of a stored result against its arrays.

What was edited in `result.json` contradicts them.
"""

from __future__ import annotations

import numpy as np

from memberscope.auditing.controls.direction import FIXED, run_direction_control
from memberscope.auditing.controls.fitted import is_better_than_constant, read_correct_predictions
from memberscope.auditing.documents.result import AttackScores, AuditArrays, Control, Result
from memberscope.auditing.scoring.null_control import find_pseudo_members, judge_null_scores
from memberscope.types import Bools, Floats

CONTROLS = ("null", "blind", "overlap", "direction", "fitted")
CLASSES_ONLY = ("fitted",)  # other tasks have no classes that the answers could fit


def recompute_controls(result: Result, arrays: AuditArrays) -> list[str]:
    """List what the stored controls say otherwise than the stored arrays, in sentences.

    Empty if nothing does.

    The blind control cannot be computed without the records: its outcome is held against its own
    numbers only.
    """
    # Taking a control out must not be a way round it
    left_out = () if result.plan.task == "classification" else CLASSES_ONLY
    absent = [name for name in CONTROLS if name not in (*result.controls, *left_out)]
    if absent:
        return [f"the {name} control is missing" for name in absent]
    controls = result.controls
    # Attacks with reference models cannot have run without their control
    used = any(sum(entry.needs.references) for entry in arrays.scored)
    if used and "references" not in controls:
        return ["the references control is missing"]
    # More models than the adversary was granted would lift a limited pass
    if used and controls["references"].details["models"] - controls["references"].details[
        "failed"
    ] > (result.threat_models[-1].references or 0):
        return ["the references control counts more models than the threat model"]
    return [
        *_recheck_direction(controls["direction"], controls["blind"], arrays),
        *(_recheck_fitted(controls["fitted"], arrays) if "fitted" in controls else ()),
        *_recheck_null(controls["null"], arrays),
        *_recheck_blind(controls["blind"]),
        *_recheck_overlap(controls["overlap"], result, arrays),
    ]


def _recheck_direction(stored: Control, blind: Control, arrays: AuditArrays) -> list[str]:
    """Recheck the direction from the stored scores.

    Where the gap attack did not run, the accuracies are one unseen test more.
    """
    unseen = (
        0
        if read_correct_predictions(arrays) is not None
        else max(0, int(stored.details.get("tests", 1)) - 1)
    )
    again = run_direction_control(arrays, None, blind, unseen=unseen)
    # With unseen tests a stored failure may be right, so only a stored pass is doubted
    if again.passed is False and stored.passed is not False:
        return [f"the direction control passed, though the stored scores say: {again.why}"]
    if not unseen and again.passed != stored.passed:
        return ["the direction control does not follow from the stored scores"]
    return []


def _recheck_fitted(stored: Control, arrays: AuditArrays) -> list[str]:
    """Recheck the members' accuracy, and the outcome where no probabilities decided."""
    right = read_correct_predictions(arrays)
    if right is None or stored.passed is None:
        # Labels that were seen are enough for this control to run
        known = right is not None and stored.passed is None
        return (
            ["the fitted control is said not to have run, though labels were seen"] if known else []
        )
    member = arrays.member
    # Only rounding may lie between the two
    if stored.value is None or abs(stored.value - float(right[member].mean())) > 1e-9:
        return ["the accuracy on members in the fitted control is not that of the stored scores"]
    unit = arrays.unit
    sure = is_better_than_constant(
        right[member], arrays.labels[member], None if unit is None else unit[member]
    )
    seen = "probabilities" if any(entry.access != "label" for entry in arrays.scored) else "labels"
    # Probabilities can decide what labels do not, so their failure alone is no contradiction
    if sure != stored.passed and (sure or seen == "labels"):
        return ["the fitted control does not follow from the stored scores"]
    return []


def _is_unlearned_attack(entry: AttackScores) -> bool:
    """Tell whether a stored score depends on its own record's answers only."""
    needs = entry.needs
    return (
        entry.declared
        and not entry.learned
        and needs.known == "none"
        and not any(needs.references)
        and not needs.population
    )


def _recheck_null(stored: Control, arrays: AuditArrays) -> list[str]:
    """Recheck the null control's interval against its outcome.

    The attacks that learn nothing are judged once more.
    """
    if stored.passed is None:
        return []
    if stored.low is None or stored.high is None or stored.value is None:
        return ["the null control has no numbers"]
    # What the document says must agree with itself, before it is held against scores
    if stored.passed != (stored.low <= 0.5 <= stored.high):
        return ["the null control's outcome contradicts its own interval"]
    # The draw of pseudo members is the same again, from the ids or as it was kept without them
    outside, unit = ~arrays.member, arrays.unit
    own_unit = None if unit is None else unit[outside]
    truth: Bools = find_pseudo_members(arrays)[outside]
    scored: dict[str, Floats] = {
        e.attack: e.scores[outside] for e in arrays.scored if _is_unlearned_attack(e)
    }
    # The correction is over all attacks that were judged, not only those that can be repeated
    total = int(stored.details.get("attacks", 0))
    if not scored or not total or min(int(truth.sum()), int((~truth).sum())) < 2:
        return []
    again = judge_null_scores(scored, truth, own_unit, tests=total)
    if stored.passed and not again.passed:
        return [f"the null control passed, though the stored scores say: {again.why}"]
    # The number shown can be repeated only if its attack learns nothing
    shown = stored.details.get("furthest")
    if shown in FIXED and shown in scored:
        alone = judge_null_scores({shown: scored[shown]}, truth, own_unit, tests=total)
        if alone.value is None or abs(alone.value - stored.value) > 1e-9:
            return ["the null control's number is not that of the stored scores"]
    return []


def _recheck_blind(stored: Control) -> list[str]:
    """Recheck the blind control's outcome against its own p-value and interval."""
    if stored.passed is None:
        return []
    p_value, alpha = stored.details.get("p_value"), stored.details.get("alpha")
    if (
        p_value is None
        or alpha is None
        or stored.low is None
        or stored.passed != (p_value >= alpha)
    ):
        return ["the blind control's outcome contradicts its own p-value"]
    # The AUC is one of the tests, so a pass cannot go with limits above one half
    return (
        ["the blind control's outcome contradicts its own interval"]
        if stored.passed and stored.low > 0.5 + 1e-9
        else []
    )


def _recheck_overlap(stored: Control, result: Result, arrays: AuditArrays) -> list[str]:
    """Recheck the overlap control's counts against the marked records and the diagnostics."""
    marked = arrays.overlap
    shown = result.diagnostics.overlap
    if stored.passed is None:
        return (
            ["the overlap control is said not to have run, though duplicates were counted"]
            if shown
            else []
        )
    excess = int(stored.details.get("excess", 0))
    if stored.passed != (excess == 0):
        return ["the overlap control's outcome contradicts its own excess"]
    counted = [int(stored.details.get(kind, -1)) for kind in ("exact", "near")]
    if not shown or counted != [shown.exact, shown.near]:
        return ["the overlap control does not count the duplicates that the diagnostics count"]
    if marked is not None and int(np.sum(marked)) != sum(counted):
        return ["the overlap control does not count the records that are marked as duplicates"]
    return []
