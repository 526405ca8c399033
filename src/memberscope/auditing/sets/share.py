"""Answer how much of a collection was used."""

from __future__ import annotations

import numpy as np

from memberscope._text import format_percentage
from memberscope.auditing.sets.answer import SetAnswer, SetControl, SetDecision
from memberscope.auditing.sets.evidence import SetEvidence
from memberscope.statistics.sets import FEWEST_PLAYERS, ShareEstimate, ShareScores, estimate_share
from memberscope.types import Bools, Ints

# Share of the held-out records that may seem used, surely, before nothing is said of the collection
TOLERANCE = 0.05
ASSUMPTION = (
    "This holds if the reference models were trained like the target, and if which records were used "
    "was not decided by how well a model remembers them."
)
PARTS = (
    "The number is that of the collection: it does not say which records were used. Records that the "
    "model learned from copies elsewhere count as used."
)


def answer_share(evidence: SetEvidence, *, confidence: float = 0.95) -> SetAnswer:
    """Answer from the further target models of an audit, which play the reference models.

    Of the attacks that ran, the one is taken that tells members of those models from non-members
    best. Without at least two such models the question is not answered.
    """
    if len(evidence.known) < FEWEST_PLAYERS:
        why = (
            f"How much was used takes at least {FEWEST_PLAYERS} further models of which it is known "
            f"what they were trained on, got {len(evidence.known)}. Audit with --recipe and "
            "--targets 4."
        )
        return _refuse(evidence.member, evidence.unit, why)
    inside = np.stack([model.member for model in evidence.known])
    tried = []
    for column, name in enumerate(evidence.attacks):
        references = np.stack([model.scores[:, column] for model in evidence.known])
        together = np.zeros(len(inside), dtype=np.int64)
        scores = ShareScores(evidence.scores[None, :, column], references, inside, together)
        found = estimate_share(
            scores, evidence.member, ~evidence.member, unit=evidence.unit, confidence=confidence
        )
        tried.append((found.tpr - found.fpr, name, scores))
    # The choice rests on the models with known members alone, never on the target
    _, name, scores = max(tried, key=lambda entry: entry[0])
    return state_share(scores, evidence.member, evidence.unit, attack=name, confidence=confidence)


def state_share(
    scores: ShareScores,
    member: Bools,
    unit: Ints | None = None,
    *,
    attack: str = "",
    confidence: float = 0.95,
) -> SetAnswer:
    """State the share of the suspect records, those of `member` (n,), that the target saw.

    The others are held-out records. `unit` (n,) numbers people or documents.

    Raises:
        InputError: A reference model saw all suspect records or none.

    >>> rng = np.random.default_rng(0)
    >>> inside, suspect = rng.random((4, 4000)) < 0.5, np.arange(4000) < 2000
    >>> found = ShareScores(rng.normal(size=(1, 4000)) + 4 * (np.arange(4000) < 500),
    ...                     rng.normal(size=(4, 4000)) + 4 * inside, inside, np.zeros(4, dtype=int))
    >>> state_share(found, suspect).statement.split(",")[0]
    'Between 23% and 27% of this collection was used in training'
    """
    found = estimate_share(scores, member, ~member, unit=unit, confidence=confidence)
    control = _check_held_out_share(scores, member, unit, confidence)
    withheld = _find_share_obstacle(found, control)
    decision: SetDecision = "ESTIMATED" if withheld is None else "WITHHELD"
    return SetAnswer(
        question="share",
        value=found.value,
        low=found.low,
        high=found.high,
        p_value=None,
        power=(),
        decision=decision,
        statement=_state_limits(found)
        if withheld is None
        else f"No statement is made about this collection. {withheld}",
        assumption=f"{ASSUMPTION} {PARTS}",
        withheld=withheld,
        n_suspect=found.n,
        n_held_out=int((~member).sum()),
        n_units=None if unit is None else found.n_units,
        method=_describe_share_method(found, attack),
        controls=(control,),
    )


def _state_limits(found: ShareEstimate) -> str:
    """State the limits, as a sentence to sign."""
    assert found.value is not None
    low, high, value = (
        format_percentage(round(share, 2)) for share in (found.low, found.high, found.value)
    )
    sure = format_percentage(found.confidence)
    if found.low > 0:
        return (
            f"Between {low} and {high} of this collection was used in training, as the calls of the "
            f"attack say with a confidence of {sure}; the share that fits best is {value}."
        )
    return (
        f"At most {high} of this collection was used in training, as the calls of the attack say "
        f"with a confidence of {sure}; none at all fits them too. The share that fits best is "
        f"{value}."
    )


def _check_held_out_share(
    scores: ShareScores, member: Bools, unit: Ints | None, confidence: float
) -> SetControl:
    """Ask how much of the held-out records was used, of which the answer must be none."""
    found = estimate_share(scores, ~member, unit=unit, confidence=confidence)
    seen = "an unknown share" if found.value is None else format_percentage(round(found.value, 3))
    limits = (
        f"{format_percentage(round(found.low, 3))} to {format_percentage(round(found.high, 3))}"
    )
    # Without a share that fits, the nearest is zero: the target calls fewer than any model
    off = found.low > TOLERANCE or (
        not found.possible and abs(found.called - found.fpr) > TOLERANCE * (found.tpr - found.fpr)
    )
    what = f"Of the held-out records, which were not used, {seen} seems used ({limits})"
    if off:
        return SetControl(
            "held_out_share",
            False,
            f"{what}: the target does not answer about them as the reference models do, so their "
            "rates say nothing about it. Train them like the target.",
        )
    return SetControl("held_out_share", True, f"{what}, as it must be within chance and 5%.")


def _find_share_obstacle(found: ShareEstimate, control: SetControl) -> str | None:
    """Find the reason why no share may be stated, None where there is none."""
    if control.passed is False:
        return control.why
    if found.value is None:
        return (
            "The attack does not tell members of the reference models from non-members "
            f"(TPR {found.tpr:.3f}, FPR {found.fpr:.3f}), so its calls say nothing about a share."
        )
    if not found.possible:
        return (
            f"No share from none to all explains the calls: {format_percentage(found.called)} of the "
            f"collection is called, where reference models give {format_percentage(found.fpr)} for "
            f"none and {format_percentage(found.tpr)} for all. They are not like the target."
        )
    return None


def _describe_share_method(found: ShareEstimate, attack: str) -> str:
    """Describe how the number came about."""
    shift = (
        ""
        if found.shift is None
        else f"; widened by {abs(found.shift):.3f} calls a held-out record"
    )
    which = f" of {attack}" if attack else ""
    return (
        f"{found.method} (after DUCI, ICLR 2025){which}: {found.called:.3f} called, TPR "
        f"{found.tpr:.3f} and FPR {found.fpr:.3f} of {found.n_references} models{shift}"
    )


def _refuse(member: Bools, unit: Ints | None, why: str) -> SetAnswer:
    """Build the answer to a question that cannot be asked of this audit."""
    n = int(member.sum())
    n_units = None if unit is None else len(np.unique(unit[member]))
    return SetAnswer(
        question="share",
        value=None,
        low=None,
        high=None,
        p_value=None,
        power=(),
        decision="NOT_RUN",
        statement=why,
        assumption=ASSUMPTION,
        withheld=why,
        n_suspect=n,
        n_held_out=len(member) - n,
        n_units=n_units,
        method="not run",
    )
