"""Say under what an answer holds, and withhold it where a control failed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from memberscope.auditing.documents.result import Control, Result
from memberscope.auditing.scoring import find_pseudo_members
from memberscope.auditing.sets.answer import SetAnswer, SetControl
from memberscope.auditing.sets.evidence import SetEvidence
from memberscope.statistics.sets import build_unit_features, compare_collections

LEVEL = 0.005  # chance that the held-out control fails where it should not, as of the null control
ASSUMPTION = (
    "This holds if the held-out records were drawn at random from the same source as the collection, "
    "so that the two would be exchangeable had the model seen neither, and if the held-out records "
    "were not used themselves."
)
COUNTER = (
    "Another explanation is that the model was trained on copies, quotations or paraphrases of these "
    "records that came from elsewhere, which scores alone do not tell from use of the collection."
)
HIDDEN = "A model that was trained on paraphrases of these records may not show it in these scores."
DECLARED = (
    "That both are of one source was declared by whoever ran the audit (--assume-exchangeable), and "
    "nothing could check it."
)
DECIDE = ("null", "blind", "overlap")  # controls of the audit that every answer rests on


def check_held_out(evidence: SetEvidence, rng: np.random.Generator) -> SetControl:
    """Ask of two random halves of the held-out records what is asked of the collection.

    The halves are those of the audit's null control.
    """
    outside = ~evidence.member
    chosen = find_pseudo_members(evidence.arrays)[outside]
    scores, unit = evidence.scores[outside], None
    if evidence.unit is not None:
        unit = evidence.unit[outside]
    p_values = [
        compare_collections(build_unit_features(scores, side, unit), rng).p_value
        for side in (chosen, ~chosen)
    ]
    p_value = min(1.0, 2 * min(p_values))
    if p_value < LEVEL:
        why = (
            "The test finds a difference between two random halves of the held-out records "
            f"(p = {p_value:.3g}), of which neither was used: it would also call an unused collection "
            "used."
        )
        return SetControl("held_out", False, why, p_value)
    why = (
        "The same test finds no difference between two random halves of the held-out records "
        f"(p = {p_value:.2g})."
    )
    return SetControl("held_out", True, why, p_value)


def list_audit_controls(result: Result) -> list[SetControl]:
    """List the controls of the audit that answers rest on, with what it said about each."""
    return [
        SetControl(name, control.passed, control.why)
        for name, control in result.controls.items()
        if name in (*DECIDE, "direction")
    ]


def find_obstacle(result: Result, held_out: SetControl) -> str | None:
    """Find the reason why no statement may be made, None where there is none."""
    if held_out.passed is False:
        return held_out.why
    for name in DECIDE:
        control = result.controls.get(name)
        if control is not None and control.passed is False:
            return f"The audit's control {name!r} failed. {control.why}"
    blind = result.controls.get("blind")
    if (blind is None or blind.passed is None) and not result.plan.assume_exchangeable:
        return _ask_for_exchangeability(blind)
    return None


def _ask_for_exchangeability(blind: Control | None) -> str:
    """Say what is missing where nothing shows that both sides are of one source."""
    why = "" if blind is None else f" {blind.why}"
    return (
        "Nothing shows that the held-out records are of the same source as the collection."
        f"{why} Audit with the records' features, or declare --assume-exchangeable if they were "
        "drawn at random."
    )


def complete_assumption(answer: SetAnswer, result: Result) -> SetAnswer:
    """Add to the assumption that nothing checked it, where it was declared."""
    blind = result.controls.get("blind")
    if blind is not None and blind.passed is not None:
        return answer
    return replace(answer, assumption=f"{answer.assumption} {DECLARED}")


def withhold_answer(answer: SetAnswer, why: str | None) -> SetAnswer:
    """Replace the statement of an answer by the reason why there is none; None leaves it.

    Numbers stay, so that a reader may see what was measured.
    """
    # What could not be asked was not answered either way
    if why is None or answer.decision == "NOT_RUN":
        return answer
    said = f"No statement is made about this collection. {why}"
    return replace(answer, decision="WITHHELD", statement=said, withheld=why)
