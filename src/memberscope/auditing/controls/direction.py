"""Check the direction: do attacks of fixed direction find non-members instead of members?

They do where the files are swapped.

Training lowers the loss of the records trained on. Where members have surely *higher* losses than
non-members, or the hold-out is surely predicted better than the training set, members and
non-members were probably given the wrong way round, and then a low attack success is no
reassurance. Attacks on the entropy are not asked: a defence may invert them [1, 2].

References:
    [1] D. Chen, N. Yu, M. Fritz, "RelaxLoss", ICLR 2022; Z. Chen, K. Pattabiraman, "Overconfidence
        is a Dangerous Thing: Mitigating Membership Inference Attacks by Enforcing Less Confident
        Prediction" (HAMP), arXiv:2307.01610.
    [2] J. Jia et al., "MemGuard", CCS 2019, arXiv:1909.10594.
"""

from __future__ import annotations

import numpy as np

from memberscope.auditing.controls.fitted import read_correct_predictions
from memberscope.auditing.documents.result import AuditArrays, Control
from memberscope.statistics import Interval, auc_interval, find_distinct_rankings
from memberscope.types import Bools, Floats

# Chance that a clean audit fails this control, over all its tests; the blind one's share comes on
# top
ALPHA = 0.0025
FIXED = (
    "gap",
    "loss",
    "confidence",
)  # their direction follows from training and cannot invert legitimately
QUESTION = "Are the two files swapped?"


def run_direction_control(
    arrays: AuditArrays, hits: Bools | None = None, blind: Control | None = None, *, unseen: int = 0
) -> Control:
    """Check whether fixed-direction attacks, accuracy or the blind control point to non-members.

    They must do so surely, with all tests counted.

    `hits` (n,) says which records the model was right about; it may be left out where the gap
    attack ran. `unseen` tests more are counted in the correction.
    """
    # Accuracy and attacks may rank alike, and count once then
    tests = _select_fixed_scores(arrays)
    right = read_correct_predictions(arrays) if hits is None else hits
    if right is not None:
        tests["accuracy"] = right.astype(np.float64)
    names = list(tests)
    distinct = [names[index] for index in find_distinct_rankings([tests[name] for name in names])]
    found = _find_inverted_tests(tests, distinct, arrays, len(distinct) + unseen)
    below = bool(blind is not None and blind.details.get("below"))
    wrong = [name for name in distinct if found[name].high < 0.5]
    # Nothing was tested, so nothing can be said
    if not distinct and (blind is None or blind.passed is None):
        return Control(
            None, "No attack ran that could show swapped files (gap, loss or confidence)."
        )
    # The lowest is shown, as the one nearest to failing
    lowest = min(distinct, key=lambda name: found[name].value) if distinct else None
    details: dict[str, object] = {
        "tests": len(distinct),
        "alpha": ALPHA,
        "inverted": wrong,
        "blind_below": below,
    }
    interval = found[lowest] if lowest is not None else None
    value, low, high = (
        (None, None, None) if interval is None else (interval.value, interval.low, interval.high)
    )
    if not wrong and not below:
        return Control(
            True,
            f"{'No' if right is None else 'Neither the accuracy nor an'} attack points to non-members "
            "in place of members.",
            value,
            low,
            high,
            details=details,
        )
    # One inverted test is described, since others mostly say the same
    reasons = [
        _describe_inverted_test(name, found[name], right, arrays.member) for name in wrong[:1]
    ]
    if below and blind is not None:
        reasons.append(
            "the records alone point the wrong way (AUC of the blind control "
            f"{blind.details.get('lowest_auc', 0.5):.3f})"
        )
    why = f"{'; '.join(reasons)}. {QUESTION}"
    return Control(False, why[0].upper() + why[1:], value, low, high, details=details)


def _select_fixed_scores(arrays: AuditArrays) -> dict[str, Floats]:
    """Select scores (n,) of the attacks of fixed direction at the declared levels, by name.

    Learned and guessed ones are left out.
    """
    return {
        entry.name: entry.scores
        for entry in arrays.scored
        if entry.attack in FIXED and entry.declared and not entry.learned
    }


def _find_inverted_tests(
    tests: dict[str, Floats], distinct: list[str], arrays: AuditArrays, total: int
) -> dict[str, Interval]:
    """Find the AUC of each test with one-sided limits that hold together over `total` of them."""
    confidence = 1 - 2 * ALPHA / max(total, 1)
    return {
        name: auc_interval(tests[name], arrays.member, confidence, arrays.unit) for name in distinct
    }


def _describe_inverted_test(
    name: str, interval: Interval, right: Bools | None, member: Bools
) -> str:
    """Describe what a test that points the wrong way found."""
    found = f"AUC {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    # Accuracies say more to a reader than the AUC of right and wrong
    if right is not None and name.split("@")[0] in ("gap", "accuracy"):
        train, test = float(right[member].mean()), float(right[~member].mean())
        return f"the hold-out is predicted better ({test:.1%}) than the training set ({train:.1%}; {found})"
    return f"{name.split('@')[0]} finds non-members in place of members, {found}"
