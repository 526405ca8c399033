"""Whether a document says what its stored scores say: one rule for every command that relies on a result or a sweep."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from memberscope.auditing.defend.frontier import Frontier, Row, Shown, meets, tpr_of
from memberscope.auditing.documents.policy import Policy, policy_from_table
from memberscope.auditing.documents.result import Arrays, Result
from memberscope.auditing.verdict.full_attack_set import seen_by
from memberscope.auditing.verdict.judge import Judgement
from memberscope.auditing.verdict.recheck_controls import recompute_controls
from memberscope.auditing.verdict.recompute import contradictions, differences, rejudged
from memberscope.defences import defended
from memberscope.errors import InputError
from memberscope.recipes.worst_case_canaries import GROUP, NATURAL
from memberscope.types import Records

NOBODY = Records(np.zeros((0, 1)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.str_), {})
ORDER = ("breaks", "undecided", "meets")  # from the least to the most that a row may claim
SHARED = ("threat", "confidence", "references", "seed", "assume_exchangeable")  # of the plans of a sweep and of its audits


def verify_result(result: Result, arrays: Arrays, policy: Policy | None = None) -> Judgement:
    """Judge a result by `policy`, or by its own, once it is shown to agree with its arrays.

    Raises:
        InputError: A digest, an estimate, the plan, a finding or the verdict is not what the arrays give.
    """
    changed = differences(result, arrays) + recompute_controls(result, arrays)
    if changed:
        raise InputError(f"Expected a result that agrees with its arrays, got: {changed[0]}. Run the audit again.")
    own = rejudged(result, arrays, None)
    changed = contradictions(result, own)
    judgement = rejudged(result, arrays, policy) if policy else own
    if changed:
        raise InputError(f"Expected a result that its scores bear out, got: {changed[0]}. Run the audit again.")
    return judgement


def training_of(name: str) -> str:
    """The name of what a choice of a sweep does to training, whose audit its row rests on.

    >>> training_of("l2:0.01+top:3"), training_of("top:3"), training_of("memguard:1+round:2")
    ('l2:0.01', 'none', 'memguard:1')
    """
    return defended(name, NOBODY, NOBODY).trains


def folder_name(name: str) -> str:
    """A folder for the audit of a way of training.

    >>> folder_name("hamp:0.5:0.001+hamp_output")
    'hamp-0.5-0.001+hamp_output'
    """
    return re.sub(r"[^\w.+=-]", "-", name)


def verify_frontier(frontier: Frontier, audits: Mapping[str, Result]) -> None:
    """Show that every row follows from the audit of its way of training; `audits` hold them by name, with their arrays.

    What the adversary does with undefended reference models is not stored, so rows of other ways of training may claim less than
    their audits show, and never more.

    Raises:
        InputError: An audit or a row is not what the stored scores give.
    """
    for name, audit in audits.items():
        verify_result(audit, audit.arrays)
        if any(audit.plan[key] != frontier.plan[key] for key in SHARED):
            raise InputError(f"Expected audits made by the sweep's plan, got another one in {name!r}. Run the sweep again.")
    for row in frontier.rows:
        if row.why_not is None and (changed := row_difference(row, frontier, audits[training_of(row.name)])):
            raise InputError(f"Expected a sweep that its audits bear out, got another {changed} of {row.name!r}. Run it again.")


def row_difference(row: Row, frontier: Frontier, audit: Result) -> str | None:
    """What of a row its audit does not bear out: `rate`, `leakage`, `outcome`, `controls` or `attacks`; None if all agrees."""
    shown = shown_again(frontier, audit.arrays)
    if shown.fpr != frontier.fpr:
        return "rate"
    limit = defended(row.name, NOBODY, NOBODY).restriction
    seen = seen_by(limit, audit, None)
    average = tpr_of(seen.parts, shown.natural, shown.fpr, shown.confidence, NATURAL)
    outcome = meets(seen, shown, audit)
    if row.controls != {name: control.passed for name, control in audit.controls.items()}:
        return "controls"
    if row.lacking != list(seen.covered.lacking) or row.attacks != (list(seen.covered.ran) if seen.parts else []):
        return "attacks"
    if training_of(row.name) == "none":
        return "leakage" if row.average != average else "outcome" if row.meets != outcome else None
    if (row.average is None) != (average is None) or (average and row.average and row.average.high < average.high):
        return "leakage"
    return None if row.meets == outcome or claims_less(row.meets, outcome) else "outcome"


def claims_less(said: str | None, found: str | None) -> bool:
    """Whether an outcome is no better than what was found."""
    return said in ORDER and found in ORDER and ORDER.index(said) <= ORDER.index(found)


def shown_again(frontier: Frontier, arrays: Arrays) -> Shown:
    """What the rows of a sweep were made of, from the arrays of one of its audits."""
    policy = None if frontier.policy is None else policy_from_table(frontier.policy)
    kinds = np.full(len(arrays.member), NATURAL)
    if GROUP in arrays.groups:
        kinds = np.asarray(arrays.group_values[GROUP])[arrays.groups[GROUP]]
    confidence = float(frontier.plan["confidence"])
    return Shown.of_kinds(kinds, arrays.labels, arrays.member, policy, confidence, len(frontier.rows))
