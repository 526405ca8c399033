"""Verify that a document says what its stored scores say.

One rule for every command that relies on a result or a sweep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from memberscope.auditing.defend.frontier import (
    Frontier,
    FrontierRow,
    FrontierView,
    decide_policy_outcome,
    estimate_largest_tpr,
)
from memberscope.auditing.documents.policy import Policy
from memberscope.auditing.documents.result import AuditArrays, Result
from memberscope.auditing.estimates.ranking import Ranking
from memberscope.auditing.verdict.full_attack_set import build_adversary_view
from memberscope.auditing.verdict.judge import Judgement
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.auditing.verdict.recompute import (
    judge_again,
    restore_ranking,
    verify_arrays,
    verify_verdict,
)
from memberscope.defences import parse_defence
from memberscope.errors import InputError
from memberscope.recipes import GROUP, NATURAL
from memberscope.types import Records

# Names of defences are parsed without records to fit them to
NOBODY = Records(np.zeros((0, 1)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.str_), {})
ORDER = ("breaks", "undecided", "meets")  # from the least to the most that a row may claim
SHARED = (
    "threat",
    "confidence",
    "references",
    "seed",
    "assume_exchangeable",
)  # of the plans of a sweep and of its audits


def verify_result(
    result: Result,
    arrays: AuditArrays,
    policy: Policy | None = None,
    ranking: Ranking | None = None,
) -> Judgement:
    """Judge a result by `policy`, or by its own, once it is shown to agree with its arrays.

    `ranking` is that of `arrays`, which is built where it is not given.

    Raises:
        InputError: A digest, an estimate, the plan, a finding or the verdict is not what the arrays
    give.
    """
    # Numbers first, then the verdict: a verdict on changed numbers would say nothing
    ranking = ranking or restore_ranking(result, arrays)
    changed = verify_arrays(result, arrays, ranking) + recompute_controls(result, arrays)
    if changed:
        raise InputError(
            f"Expected a result that agrees with its arrays, got: {changed[0]}. Run the audit "
            "again."
        )
    own = judge_again(result, arrays, None, ranking)
    changed = verify_verdict(result, own)
    judgement = judge_again(result, arrays, policy, ranking) if policy else own
    if changed:
        raise InputError(
            f"Expected a result that its scores bear out, got: {changed[0]}. Run the audit again."
        )
    return judgement


def parse_training_name(name: str) -> str:
    """Parse what a choice of a sweep does to training, whose audit its row rests on.

    >>> parse_training_name("l2:0.01+top:3"), parse_training_name("top:3"), parse_training_name("memguard:1+round:2")
    ('l2:0.01', 'none', 'memguard:1')
    """
    return parse_defence(name, NOBODY, NOBODY).trains


def name_audit_folder(name: str) -> str:
    """Name the folder for the audit of a way of training.

    >>> name_audit_folder("hamp:0.5:0.001+hamp_output")
    'hamp-0.5-0.001+hamp_output'
    """
    return re.sub(r"[^\w.+=-]", "-", name)


def verify_frontier(frontier: Frontier, audits: Mapping[str, Result]) -> None:
    """Show that every row follows from the audit of its way of training.

    `audits` hold them by name, with their arrays.

    What the adversary does with undefended reference models is not stored, so rows of other ways of
    training may claim less than their audits show, and never more.

    Raises:
        InputError: An audit or a row is not what the stored scores give.
    """
    rankings = {name: restore_ranking(audit, audit.arrays) for name, audit in audits.items()}
    for name, audit in audits.items():
        verify_result(audit, audit.arrays, ranking=rankings[name])
        # An audit of another plan may agree with itself and still be no part of this sweep
        if any(getattr(audit.plan, key) != getattr(frontier.plan, key) for key in SHARED):
            raise InputError(
                f"Expected audits made by the sweep's plan, got another one in {name!r}. Run the "
                "sweep again."
            )
    for row in frontier.rows:
        name = parse_training_name(row.name)
        # Rows that did not run claim nothing
        if row.why_not is None and (
            changed := _find_row_difference(row, frontier, audits[name], rankings[name])
        ):
            raise InputError(
                f"Expected a sweep that its audits bear out, got another {changed} of "
                f"{row.name!r}. Run it again."
            )


def _find_row_difference(
    row: FrontierRow, frontier: Frontier, audit: Result, ranking: Ranking
) -> str | None:
    """Find what of a row its audit, with the ranking of its attacks, does not bear out.

    `rate`, `leakage`, `outcome`, `controls` or `attacks`; None if all agrees.
    """
    shown = _rebuild_frontier_view(frontier, audit.arrays)
    if shown.fpr != frontier.fpr:
        return "rate"
    limit = parse_defence(row.name, NOBODY, NOBODY).restriction
    seen = build_adversary_view(limit, audit, ranking, None)
    average = estimate_largest_tpr(seen.parts, shown.natural, shown.fpr, shown.confidence, NATURAL)
    outcome = decide_policy_outcome(seen, shown, audit)
    if row.controls != {name: control.passed for name, control in audit.controls.items()}:
        return "controls"
    if row.lacking != list(seen.covered.lacking) or row.attacks != (
        list(seen.covered.ran) if seen.parts else []
    ):
        return "attacks"
    # Undefended training has no attacks beyond the stored ones, so its row must agree exactly
    if parse_training_name(row.name) == "none":
        return "leakage" if row.average != average else "outcome" if row.meets != outcome else None
    # With more attacks than are stored the limit can only rise
    if (row.average is None) != (average is None) or (
        average and row.average and row.average.high < average.high
    ):
        return "leakage"
    return None if row.meets == outcome or _is_weaker_outcome(row.meets, outcome) else "outcome"


def _is_weaker_outcome(said: str | None, found: str | None) -> bool:
    """Tell whether an outcome is no better than what was found."""
    return said in ORDER and found in ORDER and ORDER.index(said) <= ORDER.index(found)


def _rebuild_frontier_view(frontier: Frontier, arrays: AuditArrays) -> FrontierView:
    """Rebuild what the rows of a sweep were made of, from the arrays of one of its audits."""
    kinds = np.full(len(arrays.member), NATURAL)
    # Without canaries the records have no such group, and all are natural
    if GROUP in arrays.groups:
        kinds = np.asarray(arrays.group_values[GROUP])[arrays.groups[GROUP]]
    return FrontierView.of_kinds(
        kinds,
        arrays.labels,
        arrays.member,
        frontier.policy,
        frontier.plan.confidence,
        len(frontier.rows),
    )
