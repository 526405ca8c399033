"""What each defence gains and costs.

Accuracy beside leakage on average and in the worst case, and which choices no other one beats.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from memberscope._version import Tool, get_tool_version
from memberscope.auditing.defend.shares import (
    COUNTED,
    Share,
    measure_constant_answer,
    name_quality,
)
from memberscope.auditing.documents.plan import Plan
from memberscope.auditing.documents.plan_document import PlanDocument, PolicyDocument
from memberscope.auditing.documents.policy import AnyClaim, AucClaim, Claim, EpsilonClaim, Policy
from memberscope.auditing.documents.result import AttackScores, Result
from memberscope.auditing.estimates.attack_part import AttackPart, restrict_part
from memberscope.auditing.estimates.epsilon_bounds import compute_privacy_bounds
from memberscope.auditing.estimates.strongest import STRONGEST, pick_strongest
from memberscope.auditing.verdict.claims import can_refute_claim
from memberscope.auditing.verdict.full_attack_set import (
    AdversaryView,
    has_searched,
)
from memberscope.auditing.verdict.judge import count_good_references
from memberscope.errors import InputError
from memberscope.recipes import COPY, GROUP, NATURAL
from memberscope.statistics import (
    Interval,
    auc_interval,
    simultaneous_confidence,
    tpr_at_fpr,
)
from memberscope.types import Access, Bools, Estimate, Floats, Records

FORMAT = "memberscope-frontier/1"
RATES = (0.001, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)  # false-positive rates to choose from
# Below so few false positives the interval of a rate says little
LEAST = 8  # false positives at a rate, below which its interval says little
FEWEST = 20  # canaries that bound epsilon
# Whose scores bound epsilon: the first that ran, fixed beforehand, as taking the best by looking
# would need a correction
BOUND_BY = (
    "lira",
    "rmia",
    "logit",
    "confidence",
)
DELTA = 1e-5
# A row that fails one of these may break a policy but not meet it
WITHHOLD = (
    "references",
    "direction",
    "fitted",
    "overlap",
)
# A defence that keeps less than this share of the accuracy above the commonest class is said to
# destroy it
RUINED = 0.5


@dataclass(frozen=True)
class FrontierRow:
    """One choice: its accuracy on natural records, and what the strongest adaptive attacker gets.

    `average` is the TPR on natural records and `worst` that on the canaries where it is highest;
    `unaware` repeats both for an adversary who does not know the defence. `proven` and `measured`
    are epsilons: by accounting, and from below by the canaries. `attacks` ran at the row's access
    or below, and `lacking` are those of the full set that could have run there and did not: a row
    that lacks any does not meet a policy. At an access where nothing ran, leakage is None and
    `decide_policy_outcome` is `not measured`.
    """

    name: str
    settings: str
    restriction: str | None = None
    accuracy: Share | None = None
    train_accuracy: Share | None = None
    auc: Estimate | None = None
    average: Estimate | None = None
    label_only: Estimate | None = None
    canaries: list[Estimate] = field(default_factory=list)
    worst: Estimate | None = None
    unaware_average: Estimate | None = None
    unaware_worst: Estimate | None = None
    proven: dict[str, Any] | None = None
    measured: list[dict[str, Any]] = field(default_factory=list)
    controls: dict[str, bool | None] = field(default_factory=dict)
    attacks: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    meets: str | None = None
    dominated_by: list[str] = field(default_factory=list)
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    why_not: str | None = None


@dataclass(frozen=True, eq=False)
class FrontierView:
    """What rows are made of.

    Masks (n,) of the natural records and of each kind of canary, and the rates they are told at.
    """

    natural: Bools
    kinds: dict[str, Bools]
    fpr: float
    canary_fpr: float | None
    confidence: float
    policy: Policy | None
    chance: float
    n_choices: int
    wrong: float = 0.0

    @classmethod
    def of(
        cls, plan: Plan, policy: Policy | None, records: Records, member: Bools, n_choices: int
    ) -> FrontierView:
        """Choose the rates: the policy's strictest, else 1%, or the smallest there are records for.

        Raises:
            InputError: There are too few records for any.
        """
        kinds = np.asarray(records.groups.get(GROUP, np.full(len(records), NATURAL)))
        return cls.of_kinds(kinds, records.y, member, policy, plan.confidence, n_choices)

    @classmethod
    def of_kinds(
        cls,
        kinds: Any,
        y: NDArray[Any],
        member: Bools,
        policy: Policy | None,
        confidence: float,
        n_choices: int,
    ) -> FrontierView:
        """Choose the same from the records' kinds (n,), `natural` or a canary's, and classes."""
        natural = kinds == NATURAL
        # Rates are counted on non-members, so these decide which can be told
        n_natural = int((natural & ~member).sum())
        # The strictest rate is the one that a policy is most likely broken at
        wanted = min((claim.fpr for claim in policy.max_tpr), default=0.01) if policy else 0.01
        fpr = pick_resolvable_rate(wanted, n_natural)
        if fpr is None:
            raise InputError(
                f"Expected at least {LEAST / RATES[-1]:.0f} non-members, got {n_natural}. Give "
                "more."
            )
        # A copy only accompanies its near-duplicate, so it is no canary of its own
        masks = {
            kind: kinds == kind
            for kind in dict.fromkeys(kinds.tolist())
            if kind not in (NATURAL, COPY)
        }
        # The rarest kind decides, since all kinds are told at one rate
        least = min((int((mask & ~member).sum()) for mask in masks.values()), default=0)
        canary_fpr = pick_resolvable_rate(fpr, least) if masks else None
        # What always guessing the commonest class gets right, which is no accuracy worth keeping
        chance = measure_constant_answer(y[natural & ~member])
        wrong = float((~natural)[member].mean())
        return cls(natural, masks, fpr, canary_fpr, confidence, policy, chance, n_choices, wrong)


def pick_resolvable_rate(wanted: float, n: int) -> float | None:
    """Pick the rate `wanted`, or the next of `RATES` that makes a few false positives among `n`.

    >>> pick_resolvable_rate(0.01, 800), pick_resolvable_rate(0.01, 799), pick_resolvable_rate(0.01, 9)
    (0.01, 0.02, None)
    """
    return next(
        # The slack keeps 0.01 of 800 from missing 8 by rounding
        (rate for rate in sorted({wanted, *RATES}) if rate >= wanted and rate * n >= LEAST - 1e-9),
        None,
    )


def build_frontier_row(
    seen: AdversaryView,
    limit: str | None,
    result: Result,
    shown: FrontierView,
    proof: Any,
    *,
    quality: Floats | None = None,
) -> FrontierRow:
    """Build the row of a choice from its audit; `limit` is the restriction of outputs it goes with.

    `seen` are the attacks of the row's adversary, and of one who does not know the defence.
    `quality` (n,) is how right real outputs are; classes are right where the gap attack says so.
    """
    arrays = result.arrays
    parts, others, covered = seen.parts, seen.others, seen.covered
    average = estimate_largest_tpr(parts, shown.natural, shown.fpr, shown.confidence, NATURAL)
    rows = _estimate_canary_rates(parts, shown)
    theirs = _estimate_canary_rates(others, shown)
    # Epsilon is bounded only from levels that this row's adversary sees
    places = {part.scored.level for part in parts}
    member = arrays.member
    right = _get_correct_records(result) if quality is None else quality
    # Labels say nothing of label-only leakage unless they were searched
    labels = [part for part in parts if part.scored.access == Access.LABEL.word]
    labels = labels if has_searched([part.scored for part in labels]) else []
    row = FrontierRow(
        name="",
        settings="",
        restriction=limit,
        accuracy=Share.of(right[shown.natural & ~member], shown.confidence),
        train_accuracy=Share.of(right[shown.natural & member], shown.confidence),
        auc=_estimate_largest_auc(parts, shown.natural, shown.confidence),
        average=average,
        label_only=estimate_largest_tpr(
            labels, shown.natural, shown.fpr, shown.confidence, NATURAL
        ),
        canaries=rows,
        worst=_pick_worst_kind(rows),
        unaware_average=estimate_largest_tpr(
            others, shown.natural, shown.fpr, shown.confidence, NATURAL
        ),
        unaware_worst=_pick_worst_kind(theirs),
        proven=None if proof is None else asdict(proof),
        # Without a proof there is no delta to test, so the usual one is taken
        measured=_measure_epsilon_bounds(
            [entry for entry in arrays.scored if entry.level in places],
            arrays.member,
            shown,
            DELTA if proof is None else proof.delta,
        ),
        controls={name: control.passed for name, control in result.controls.items()},
        attacks=list(covered.ran) if parts else [],
        lacking=list(covered.lacking),
        meets=decide_policy_outcome(seen, shown, result),
    )
    return replace(row, notes=_list_row_notes(row, shown))


def estimate_largest_tpr(
    parts: list[AttackPart],
    mask: Bools,
    fpr: float,
    confidence: float,
    group: str,
    n_groups: int = 1,
) -> Estimate | None:
    """Estimate the TPR at `fpr` of the strongest attack on the records under `mask`.

    Its limits hold for all candidates (and groups) at once.
    """
    # Too few non-members give some attacks no threshold at this rate
    usable = [
        part
        for part in (restrict_part(part, mask, f"{GROUP}={group}") for part in parts)
        if part.resolves(fpr)
    ]
    if not usable:
        return None
    # The strongest is taken by looking, so each limit pays for all of them
    each = simultaneous_confidence(confidence, len(usable) * n_groups)
    curves = [part.curves() for part in usable]
    intervals = [tpr_at_fpr(curve, fpr, each, strict=strict) for curve, strict in curves]
    best, name = pick_strongest(intervals, [part.scored.attack for part in usable])
    return _build_strongest_estimate(
        usable, best, name, confidence, "tpr", fpr=fpr, threshold="best"
    )


def _estimate_largest_auc(
    parts: list[AttackPart], mask: Bools, confidence: float
) -> Estimate | None:
    """Estimate the largest AUC on the records under `mask`; None where nothing ran."""
    if not parts:
        return None
    inside = [restrict_part(part, mask, f"{GROUP}={NATURAL}") for part in parts]
    each = simultaneous_confidence(confidence, len(inside))
    intervals = [auc_interval(part.scores, part.member, each) for part in inside]
    best, name = pick_strongest(intervals, [part.scored.attack for part in inside])
    return _build_strongest_estimate(inside, best, name, confidence, "auc")


def _build_strongest_estimate(
    parts: list[AttackPart],
    best: Interval,
    name: str,
    confidence: float,
    metric: Any,
    **conditions: Any,
) -> Estimate:
    """Build the estimate of the strongest of `parts`, which `name` is."""
    part = next(part for part in parts if part.scored.attack == name)
    found = part.estimate(metric, best, confidence, **conditions)
    return replace(found, attack=STRONGEST, method=best.method, reached_by=name)


def _estimate_canary_rates(parts: list[AttackPart], shown: FrontierView) -> list[Estimate]:
    """Estimate the TPR on each kind of canary, with limits for all kinds and attacks at once."""
    if shown.canary_fpr is None:
        return []
    found = [
        estimate_largest_tpr(
            parts, mask, shown.canary_fpr, shown.confidence, kind, len(shown.kinds)
        )
        for kind, mask in shown.kinds.items()
    ]
    return [entry for entry in found if entry is not None]


def _pick_worst_kind(rows: list[Estimate]) -> Estimate | None:
    """Pick the kind with the largest value, with the largest limits of all kinds.

    They are the largest since the kind was chosen by looking.
    """
    if not rows:
        return None
    best = max(rows, key=lambda entry: entry.value)
    return replace(
        best, low=max(entry.low for entry in rows), high=max(entry.high for entry in rows)
    )


def _get_correct_records(result: Result) -> Bools:
    """Find the records (n,) whose class the model gets right: what the gap attack scores."""
    gap = next(entry for entry in result.arrays.scored if entry.attack == "gap")
    return np.asarray(gap.scores > 0.5)


def _measure_epsilon_bounds(
    scored: list[AttackScores], member: Bools, shown: FrontierView, delta: float
) -> list[dict[str, Any]]:
    """Bound epsilon from below by the canaries that coins put in or left out one by one.

    The attack is fixed beforehand.
    """
    # A near-duplicate moves together with its copy, so it is no coin of its own
    alone = [mask for kind, mask in shown.kinds.items() if kind != "near_duplicate"]
    # A learned attack saw the memberships of other records; the highest level of each comes last
    ran = {entry.attack: entry for entry in scored if not entry.learned}
    chosen = next((ran[name] for name in BOUND_BY if name in ran), None)
    if not alone or chosen is None:
        return []
    # All kinds together: each canary is one coin, whatever it was made from
    mask = np.logical_or.reduce(alone)
    if int(mask.sum()) < FEWEST or len(np.unique(member[mask])) < 2:
        return []
    found = compute_privacy_bounds(
        chosen.scores[mask], member[mask], delta, confidence=shown.confidence
    )
    return [{"attack": chosen.attack} | asdict(bound) for bound in found]


def decide_policy_outcome(seen: AdversaryView, shown: FrontierView, result: Result) -> str | None:
    """Decide whether the natural records meet the policy: `meets`, `breaks` or `undecided`.

    It is None without a policy and `not measured` where nothing ran.

    Limits hold for all claims and all choices at once, since the best choice is taken by looking.
    Nothing is decided where a control failed, and nothing meets a policy whose required attacks, or
    any of the full set at this access, did not run, nor one with claims about more than the TPR of
    all records.
    """
    if shown.policy is None:
        return None
    if not seen.parts:
        return "not measured"
    # These two make every number of the row mean something else, a breach included
    if any(
        result.controls[name].passed is False
        for name in ("null", "blind")
        if name in result.controls
    ):
        return "undecided"
    ran = {entry.attack for entry in result.arrays.scored}
    failed = [
        name
        for name, control in result.controls.items()
        if name in WITHHOLD and control.passed is False
    ]
    # What may hide leakage withholds only the pass; the claims can still break
    few = shown.policy.references > count_good_references(result.controls)
    open_points = failed or few or seen.covered.lacking or not set(shown.policy.require) <= ran
    found = ["undecided"] if open_points else []
    found += [_decide_claim_outcome(claim, seen.parts, shown) for claim in shown.policy.claims()]
    # One broken claim breaks the policy, however many are undecided
    return next(word for word in ("breaks", "undecided", "meets") if word in found)


def _decide_claim_outcome(claim: AnyClaim, parts: list[AttackPart], shown: FrontierView) -> str:
    """Decide whether the natural records meet one claim.

    Claims about groups, and about epsilon, are left to the audit of a choice.
    """
    if claim.group is not None or shown.policy is None or isinstance(claim, EpsilonClaim):
        return "undecided"
    # Claims and choices are both looked over, so the confidence is split among their pairs
    family = len(shown.policy.claims()) * shown.n_choices
    each = simultaneous_confidence(shown.confidence, family)
    inside = [restrict_part(part, shown.natural, f"{GROUP}={NATURAL}") for part in parts]
    if isinstance(claim, AucClaim):
        entry, limit = _estimate_largest_auc(parts, shown.natural, each), claim.auc
    else:
        # The function splits the confidence among the family itself
        entry = estimate_largest_tpr(
            parts, shown.natural, claim.fpr, shown.confidence, NATURAL, family
        )
        limit = claim.tpr if isinstance(claim, Claim) else claim.as_tpr()
        inside = [part for part in inside if part.resolves(claim.fpr)]
    if entry is None:
        return "undecided"
    # A breach needs no able attack, so it is looked for first
    if entry.low > limit:
        return "breaks"
    # A limit that no attack could have refuted is not shown to be kept
    able = any(can_refute_claim(claim, part, (1 - shown.confidence) / 2) for part in inside)
    return "meets" if entry.high <= limit and able else "undecided"


def _list_row_notes(row: FrontierRow, shown: FrontierView) -> list[str]:
    """List sentences about a row that a reader must not miss."""
    found = []
    if shown.policy is not None and row.lacking and row.meets == "undecided":
        found.append(
            "Not decided yet, since some attacks that apply to it did not run: "
            f"{', '.join(row.lacking)}."
        )
    if row.proven is not None and any(
        bound["epsilon"] > row.proven["epsilon"]
        # Only this form assumes nothing but privacy; the other is for Gaussian mechanisms alone
        for bound in row.measured
        if bound["form"] == "one_run"
    ):
        found.append(
            "The inserted records leak more than the proven epsilon allows: training does not do what "
            "the proof assumes."
        )
    if row.controls.get("null") is False:
        found.append("The null control failed: do not use this row.")
    if row.controls.get("blind") is False:
        found.append(
            "Members and non-members differ even without the model, so these numbers are not leakage "
            "alone."
        )
    if row.controls.get("references") is False:
        found.append(
            "The reference models failed their control, so a real attacker may do better than shown."
        )
    return found


class Frontier(BaseModel):
    """All choices with what they gain and cost, those that no other beats by name, and advice."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["memberscope-frontier/1"] = "memberscope-frontier/1"
    tool: Tool
    title: str
    plan: PlanDocument
    policy: PolicyDocument
    fpr: float
    canary_fpr: float | None
    rows: list[FrontierRow]
    undominated: list[str]
    advice: list[str]


def build_frontier(
    plan: Plan, policy: Policy | None, rows: list[FrontierRow], shown: FrontierView
) -> Frontier:
    """Build the frontier of the rows."""
    # The first row is undefended training, which is always tried first
    base = rows[0]
    quality = name_quality(plan.task)
    rows = [
        _note_destroyed_accuracy(
            replace(row, dominated_by=find_dominating_choices(row, rows)), base, shown, quality
        )
        for row in rows
    ]
    # What was not measured cannot be better than others
    undominated = [row.name for row in rows if row.average is not None and not row.dominated_by]
    return Frontier(
        tool=Tool(version=get_tool_version()),
        title=plan.title,
        plan=plan.document(),
        policy=policy,
        fpr=shown.fpr,
        canary_fpr=shown.canary_fpr,
        rows=rows,
        undominated=undominated,
        advice=[
            *_write_frontier_advice(rows, undominated, shown, quality),
            *_describe_canary_costs(shown, quality),
        ],
    )


def _get_row_axes(row: FrontierRow) -> tuple[float, ...] | None:
    """Give what is compared, more being better: accuracy, and leakages with the sign turned."""
    if row.accuracy is None or row.average is None:
        return None
    # Without canaries there is no worst case, and one axis less
    worst = () if row.worst is None else (-row.worst.value,)
    return (row.accuracy.value, -row.average.value, *worst)


def find_dominating_choices(row: FrontierRow, rows: list[FrontierRow]) -> list[str]:
    """Name the choices that are at least as good on every axis, and better on one."""
    own = _get_row_axes(row)
    found = []
    for other in rows:
        theirs = _get_row_axes(other)
        # Rows with other axes cannot be compared
        if own is None or theirs is None or len(own) != len(theirs):
            continue
        # Equal rows do not dominate each other, or both would vanish
        if all(b >= a for a, b in zip(own, theirs, strict=True)) and theirs != own:
            found.append(other.name)
    return found


def _note_destroyed_accuracy(
    row: FrontierRow, base: FrontierRow, shown: FrontierView, quality: str
) -> FrontierRow:
    """Add a sentence to the row if the defence destroys accuracy, which is called `quality`."""
    if row.accuracy is None or base.accuracy is None:
        return row
    # Judged by the upper limit, so that few records do not ruin a defence by chance
    if row.accuracy.high - shown.chance >= RUINED * (base.accuracy.value - shown.chance):
        return row
    words = (
        f"It costs most of the {quality}: {100 * row.accuracy.value:.3g}% with it, "
        f"{100 * base.accuracy.value:.3g}% without a defence."
    )
    return replace(row, notes=[*row.notes, words])


def _describe_canary_costs(shown: FrontierView, quality: str) -> list[str]:
    """Say what the inserted records cost, and whether they were enough."""
    if not shown.kinds:
        return ["No worst-case records were inserted, so nothing is known of the worst case."]
    found = [
        f"{100 * shown.wrong:.2g}% of the target's training records were inserted with wrong "
        f"{'labels' if quality in COUNTED else 'values'}, which costs {quality} in every row."
    ]
    if shown.canary_fpr is None:
        found.append(
            "Too few worst-case records were inserted to measure the worst case: raise --canaries."
        )
    return found


def _write_frontier_advice(
    rows: list[FrontierRow], undominated: list[str], shown: FrontierView, quality: str
) -> list[str]:
    """Write what the frontier means."""
    policy = shown.policy
    axes_words = (
        f"{quality}, average and worst-case leakage"
        if shown.canary_fpr is not None
        else f"{quality} and average leakage"
    )
    found = (
        [f"No other choice beats these in {axes_words} together: {', '.join(undominated)}."]
        if undominated
        else ["No choice was measured."]
    )
    # The best of all may not be good enough: name the most accurate that meets the policy
    if policy is not None:
        good = [row for row in rows if row.meets == "meets" and row.accuracy is not None]
        if good:
            best = max(good, key=lambda row: row.accuracy.value if row.accuracy else 0.0)
            found.append(
                f"Of {len(rows)} choices {len(good)} meet the policy {policy.name!r} on natural "
                "records; the most accurate of them is "
                f"{best.name}: {best.settings}."
            )
        else:
            open_rows = [row.name for row in rows if row.meets in ("undecided", "not measured")]
            more = (
                f" These records do not decide about: {', '.join(open_rows)}." if open_rows else ""
            )
            found.append(f"No choice meets the policy {policy.name!r} on natural records.{more}")
    # A choice that failed is named, lest its absence look like a result
    failed = [row.name for row in rows if row.why_not is not None]
    if failed:
        found.append(f"Did not run: {', '.join(failed)}.")
    return found
