"""Compare generated tables with the released one.

How near a table's rows come to a record (`measure_output_quality`) shows whether the recipe makes
tables as the released one was made: equally near to records that both were made from, and to records
new to both, and as much nearer to their own.
"""

from __future__ import annotations

from dataclasses import asdict

from memberscope.auditing.collect.output_references import (
    ALLOWED,
    FITTED,
    SHARE,
    compare_output_references,
    measure_output_fidelity,
)
from memberscope.auditing.collect.reference_models import References, explain_untrained_models
from memberscope.auditing.collect.text_references import TrainingComparison
from memberscope.auditing.documents.result import Control
from memberscope.auditing.subject.subject import Subject


def run_table_reference_control(found: References, subject: Subject, confidence: float) -> Control:
    """Check that enough tables were generated, and generated as the released one was."""
    details = asdict(measure_output_fidelity(found, subject))
    least = f"they come less than {FITTED:g} times as near to their records as the others do"
    why = explain_untrained_models(found, least)
    if why is not None:
        return Control(False, why, details=details)
    compared = compare_output_references(found, subject, confidence)
    details |= {"target_gain": compared.target_gain, "reference_gain": compared.reference_gain}
    limits = {} if compared.gain is None else asdict(compared.gain)
    n_good = int(found.good.sum())
    other = explain_other_nearness(compared)
    if other is not None:
        why = (
            f"{n_good} generated tables {other}: they were made in another way. Attacks with them "
            "say little; give the generator the settings of the released table."
        )
        return Control(False, why, details=details, **limits)
    gains = (
        "how much nearer they come to their own records cannot be told from this design"
        if compared.gain is None
        else f"they come nearer to their own records by {compared.reference_gain or 0.0:.3g}, the "
        f"released one by {compared.target_gain or 0.0:.3g} (of one over one plus the distance)"
    )
    why = f"{n_good} tables were generated like the released one: {gains}."
    return Control(True, why, details=details, **limits)


def explain_other_nearness(found: TrainingComparison) -> str | None:
    """Say in what generated tables surely differ from the released one; None if in nothing.

    >>> from memberscope.auditing.collect.text_references import Difference
    >>> same, less = Difference(0.0, -0.01, 0.01), Difference(0.3, 0.25, 0.35)
    >>> explain_other_nearness(TrainingComparison(same, same, 0.2, 0.2, same)) is None
    True
    >>> explain_other_nearness(TrainingComparison(less, same, 0.2, 0.2, same))
    'come less near than the released one to records that both were made from'
    """
    target = max(found.target_gain or 0.0, 0.0)
    allowed = max(SHARE * target, ALLOWED)
    for difference, words in (
        (found.members, "records that both were made from"),
        (found.others, "records new to both"),
    ):
        if difference is None or (difference.low <= allowed and difference.high >= -allowed):
            continue
        more = "less near" if difference.value > 0 else "nearer"
        return f"come {more} than the released one to {words}"
    gain = found.gain
    if gain is None or (gain.high >= -allowed and gain.low <= max(target, ALLOWED)):
        return None
    return (
        f"come nearer to their own records by {found.reference_gain or 0.0:.3g}, where the released "
        f"one does by {target:.3g}"
    )
