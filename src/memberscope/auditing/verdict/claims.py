"""Test the claims of a policy on stored scores.

There is one test for each claim, each value of its group and each attack.

A claim is refuted by the attacks' p-values, corrected together by Holm, and shown by every attack's
upper limit, which needs no correction: all of them must lie within the limit (an intersection-union
test [1]). Where records stand on both sides, both are taken in the worst case over who of them was
left out.

References:
    [1] R. Berger, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24,
1982.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from memberscope.auditing.documents.policy import (
    AnyClaim,
    AucClaim,
    Claim,
    EpsilonClaim,
    Policy,
    PpvClaim,
)
from memberscope.auditing.documents.result import AuditArrays
from memberscope.auditing.estimates.attack_part import AttackPart, restrict_part
from memberscope.auditing.estimates.strongest import (
    estimate_strongest_auc,
    estimate_strongest_ppv,
    estimate_strongest_tpr,
)
from memberscope.statistics import (
    can_fail,
    ppv,
    records_needed_to_fail,
    tpr_p_value,
)
from memberscope.types import Bools, Estimate

# Smaller p-values depend on rounding alone, and roots are sought above this one
SMALLEST_P = 1e-12


@dataclass(frozen=True, eq=False)
class Question:
    """One claim about all records or about one value of its group.

    `mask` (n,) selects them, None if there are none such.
    """

    claim: AnyClaim
    group: str | None
    mask: Bools | None

    def sentence(self) -> str:
        """Write the claim in words, about the one value of its group."""
        if self.group is None or isinstance(self.claim, EpsilonClaim):
            return self.claim.sentence()
        return replace(self.claim, group=self.group).sentence()


@dataclass(frozen=True, eq=False)
class Tested:
    """A question with what the attacks say.

    `p_values` has one entry for each attack that was tested, `high` is the largest upper limit over
    attacks, `able` tells whether some attack could have refuted the claim. `worst_p_values` and
    `worst_high` are those of the worst case over shared records. `why_not` says in a sentence why
    nothing was tested.
    """

    question: Question
    estimate: Estimate | None = None
    p_values: tuple[float, ...] = ()
    high: float = 1.0
    able: bool = False
    worst_p_values: tuple[float, ...] = ()
    worst_high: float = 1.0
    why_not: str | None = None

    @property
    def limit(self) -> float:
        """The limit of the claim, on the scale of its estimate."""
        return _get_claim_limit(self.question.claim)


def _get_claim_limit(claim: AnyClaim) -> float:
    """Get the number that a claim allows at most: a TPR, an AUC, a precision or an epsilon."""
    if isinstance(claim, Claim):
        return claim.tpr
    if isinstance(claim, AucClaim):
        return claim.auc
    return claim.ppv if isinstance(claim, PpvClaim) else claim.epsilon


def _list_questions(policy: Policy, arrays: AuditArrays) -> list[Question]:
    """List every claim of a policy, once for each value of its group."""
    found: list[Question] = []
    for claim in policy.claims():
        if claim.group is None:
            found.append(Question(claim, None, np.ones(len(arrays.member), dtype=bool)))
            continue
        # `sex` asks about every value, `sex=f` about that one
        name, _, value = claim.group.partition("=")
        values = arrays.group_values.get(name, ())
        chosen = [code for code, word in enumerate(values) if not value or word == value]
        found += [
            Question(claim, f"{name}={values[code]}", arrays.groups[name] == code)
            for code in chosen
        ]
        # A group that the data lacks must show as not run, and not vanish
        if not chosen:
            found.append(Question(claim, claim.group, None))
    return found


def count_questions(policy: Policy, group_values: Mapping[str, Sequence[str]]) -> int:
    """Count the claims of a policy, each once for each value of its group.

    >>> count_questions(Policy("p", (Claim(0.01, 0.03), Claim(0.01, 0.05, "sex"))), {"sex": ("f", "m")})
    3
    """
    names = [claim.group for claim in policy.claims()]
    return sum(
        1 if name is None or "=" in name else max(1, len(group_values.get(name, ())))
        for name in names
    )


def examine_claims(
    policy: Policy,
    arrays: AuditArrays,
    parts: list[AttackPart],
    estimates: list[Estimate],
    confidence: float,
    excess: int = 0,
) -> list[Tested]:
    """Test every claim with every attack of `parts`.

    `excess` counts the records on both sides beyond what chance explains. `estimates` are the
    audit's own, where bounds on epsilon are found. The access of each result is that of the attack
    that reached it.
    """
    questions = _list_questions(policy, arrays)
    found: dict[int, Tested] = {}
    # Group by group, so that all claims about one group share its parts and their curves
    for group in dict.fromkeys(question.group for question in questions):
        own = [(k, question) for k, question in enumerate(questions) if question.group == group]
        mask, inside = own[0][1].mask, parts
        # Without a group the parts already hold all records
        if group is not None and mask is not None:
            inside = [restrict_part(part, mask, group) for part in parts]
        for k, question in own:
            found[k] = _test_question(question, arrays, inside, estimates, confidence, excess)
    return [found[k] for k in range(len(questions))]


def _test_question(
    question: Question,
    arrays: AuditArrays,
    own: list[AttackPart],
    estimates: list[Estimate],
    confidence: float,
    excess: int,
) -> Tested:
    # Cases in which nothing can be tested come first
    claim = question.claim
    if question.mask is None:
        known = ", ".join(arrays.group_values) or "none"
        return Tested(
            question,
            why_not=f"Expected the group {question.group!r} in the data, got the groups {known}.",
        )
    if isinstance(claim, EpsilonClaim):
        return _test_epsilon(question, estimates, confidence)
    members = int(own[0].member.sum()) if own else 0
    # An interval needs at least two records a side
    if own and (members < 2 or len(own[0].member) - members < 2):
        others = len(own[0].member) - members
        return Tested(
            question,
            why_not=f"Expected at least two members and non-members of {question.group}, got {members} and {others}.",
        )
    # An AUC needs no threshold, so every attack can be tested for it
    usable = (
        own if isinstance(claim, AucClaim) else [part for part in own if part.resolves(claim.fpr)]
    )
    if not usable:
        return Tested(question, why_not=_explain_too_few(claim, own))
    # What the scores say as they are
    found = [_measure_claim(claim, part, confidence) for part in usable]
    # What they would say if the shared records were left out in the worst way
    worst = found
    if excess:
        shared = (
            np.zeros(len(arrays.member), dtype=bool) if arrays.overlap is None else arrays.overlap
        )
        unfound = excess > int(
            shared.sum()
        )  # copies that nobody marked: their worst case is not bounded
        worst = [
            (1.0, 1.0)
            if unfound
            else _find_worst_case(claim, part, own_case, shared[question.mask], excess, confidence)
            for part, own_case in zip(usable, found, strict=True)
        ]
    return Tested(
        question,
        # The policy's own confidence is two-sided, so a claim gets half of it
        _estimate_claim(claim, usable, confidence),
        tuple(p for p, _ in found),
        max(high for _, high in found),
        any(can_refute_claim(claim, part, (1 - confidence) / 2) for part in usable),
        tuple(p for p, _ in worst),
        max(high for _, high in worst),
    )


def _explain_too_few(claim: Claim | AucClaim | PpvClaim, parts: list[AttackPart]) -> str:
    """Say why no attack resolves the rate of a claim."""
    if not parts or isinstance(claim, AucClaim):
        return "Expected an attack that ran at this access, got none."
    n = int((~parts[0].member).sum())
    of = "" if parts[0].group is None else f" of {parts[0].group}"
    return (
        f"Expected at least {-(-1 // claim.fpr):.0f} non-members{of} for a rate of "
        f"{100 * claim.fpr:.4g}%, got {n} "
        f"(a fold's, for attacks that learn)."
    )


def _test_epsilon(question: Question, estimates: list[Estimate], confidence: float) -> Tested:
    """Compare the largest lower bound on epsilon, over all attacks, with its limit."""
    bounds = [
        entry for entry in estimates if entry.metric == "epsilon_lower" and entry.target == "target"
    ]
    if not bounds:
        return Tested(
            question,
            why_not="Expected members drawn by independent coins (--coins) for a bound on epsilon, got none declared.",
        )
    # The bounds hold over all attacks together, so the largest may be taken
    best = max(bounds, key=lambda entry: entry.low)
    refuted = best.low > _get_claim_limit(question.claim)
    # A bound gives no p-value, only whether it is exceeded at the audit's confidence
    p = SMALLEST_P if refuted else 1.0
    return Tested(
        question,
        # No upper limit exists, so the claim can never be shown
        replace(best, exploratory=False),
        (p,),
        np.inf,
        best.high > _get_claim_limit(question.claim),
        (p,),
        np.inf,
    )


def _measure_claim(
    claim: Claim | AucClaim | PpvClaim, part: AttackPart, confidence: float
) -> tuple[float, float]:
    """Measure a claim's p-value by one attack, and its upper limit on the scale of the claim."""
    if isinstance(claim, AucClaim):
        return _compute_auc_p_value(part, claim.auc), part.measure_auc().limits(confidence).high
    # What cannot be resolved neither refutes nor shows
    if not part.resolves(claim.fpr):
        return 1.0, 1.0
    curve, strict = part.curves()
    # A precision at a rate and a prior is a TPR, and is tested as one
    tpr = claim.tpr if isinstance(claim, Claim) else claim.as_tpr()
    high = part.measure_tpr(claim.fpr, confidence).high
    p = tpr_p_value(curve, claim.fpr, tpr, strict=strict)
    return p, high if isinstance(claim, Claim) else ppv(high, claim.fpr, claim.prior)


def _compute_auc_p_value(part: AttackPart, limit: float) -> float:
    """Compute the one-sided p-value of "the AUC is at most `limit`".

    It is below a exactly when the lower limit at tail a exceeds it.
    """
    found = part.measure_auc()

    def excess(log_tail: float) -> float:
        return found.limits(1 - 2 * float(np.exp(log_tail))).low - limit

    # The lower limit rises with the tail, so the p-value is where it crosses the limit
    first, last = float(np.log(SMALLEST_P)), float(np.log(0.4999))
    if excess(last) <= 0:
        return 1.0
    return (
        SMALLEST_P if excess(first) > 0 else float(np.exp(brentq(excess, first, last, xtol=1e-6)))
    )


def can_refute_claim(claim: AnyClaim, part: AttackPart, significance: float) -> bool:
    """Tell whether an attack whose score found every member could have refuted the claim."""
    if isinstance(claim, AucClaim):
        # Members tied at the top: the best that these non-members' scores allow
        best = np.where(part.member, part.scores.max(), part.scores)
        perfect = replace(part, scores=best)
        return _compute_auc_p_value(perfect, claim.auc) < significance
    # Bounds on epsilon are judged by themselves
    if isinstance(claim, EpsilonClaim):
        return False
    curve, strict = part.curves()
    tpr = claim.tpr if isinstance(claim, Claim) else claim.as_tpr()
    return can_fail(curve, claim.fpr, tpr, significance, strict=strict)


def count_records_needed(claim: AnyClaim, significance: float) -> int | None:
    """Count the non-members with which an attack could refute a claim about a rate.

    None for other claims.
    """
    if isinstance(claim, Claim | PpvClaim):
        return records_needed_to_fail(claim.fpr, significance)
    return None


def _find_worst_case(
    claim: Claim | AucClaim | PpvClaim,
    part: AttackPart,
    found: tuple[float, float],
    shared: Bools,
    excess: int,
    confidence: float,
) -> tuple[float, float]:
    """Find the largest p-value and upper limit if `excess` shared non-members were members.

    `found` is among them, and `shared` (n,) marks the non-members in question. The extremes are
    without the highest-scoring and without the lowest-scoring of them.
    """
    where = np.flatnonzero(shared & ~part.member)
    order = where[np.argsort(part.scores[where], kind="stable")]
    others = int((~part.member).sum())
    n = min(excess, len(where))
    if not n:
        return found
    # Too few non-members are left for any limit
    if others - n < 2:
        return 1.0, 1.0
    # Removing non-members from one end moves the curve furthest, so two cases bound the rest
    cases = [found]
    for left_out in (order[len(order) - n :], order[:n]):
        keep = np.ones(len(part.member), dtype=bool)
        keep[left_out] = False
        cases.append(_measure_claim(claim, _select_part_records(part, keep), confidence))
    return max(p for p, _ in cases), max(high for _, high in cases)


def _select_part_records(part: AttackPart, keep: Bools) -> AttackPart:
    """Keep the records of a part under `keep` (n,) alone, in the same group."""
    return restrict_part(part, keep, part.group)


def _estimate_claim(
    claim: Claim | AucClaim | PpvClaim, parts: list[AttackPart], confidence: float
) -> Estimate:
    """Estimate what the claim limits, by the strongest attack."""
    if isinstance(claim, AucClaim):
        found = estimate_strongest_auc(parts, confidence)
    elif isinstance(claim, Claim):
        found = estimate_strongest_tpr(parts, claim.fpr, confidence)
    else:
        found = estimate_strongest_ppv(parts, claim.fpr, claim.prior, confidence)
    return replace(found, exploratory=False)
